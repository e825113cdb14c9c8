// SPDX-License-Identifier: MIT
//
// Which of the matrices of a dispatch, p.jobs, the workgroup has, and from which of its rows on. To be included after
// the push constants.
struct matvec_place {
    uint job, first;
};

matvec_place job_find(uint group_rows)
{
    uint job = 0, group = gl_WorkGroupID.x;
    [[dont_unroll]] while (group * group_rows >= p.jobs.n_out[job]) {
        group -= (p.jobs.n_out[job] + group_rows - 1) / group_rows;
        job++;
    }
    return matvec_place(job, group * group_rows);
}
