/* SPDX-License-Identifier: MIT
 *
 * A file system that fails on demand: an SQLite VFS over the usual one. It makes the n-th call of a kind fail, once or
 * from then on, or cuts the power before the n-th change of a file. It counts the calls on all files together, from any
 * thread.
 *
 * Power. Every file has a durable image: what is on it after the last sync. What was written since is only pending. At
 * the cut nothing is written any more; power_restore then makes the files as a disk may have them afterwards: the
 * durable image, plus any of the pending changes, whole or torn at sectors of 512 bytes.
 */
#ifndef LECTERN_TESTS_FAULTS_FAULT_VFS_H
#define LECTERN_TESTS_FAULTS_FAULT_VFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fault_call { FAULT_WRITE, FAULT_SYNC, FAULT_OPEN, FAULT_TRUNCATE, FAULT_READ, FAULT_DELETE, FAULT_CALLS };

void fault_install(void); /* becomes the default VFS */
void fault_uninstall(void);

/* The n-th call (from 1) of this kind answers with code; all later ones too when forever. n = 0: none fails. */
void fault_arm(enum fault_call, unsigned n, int code, bool forever);
bool fault_fired(void);

/* From here on images are kept; the power goes before the n-th write, sync, truncation or deletion (0: never). */
void power_start(unsigned n);
bool power_is_cut(void);
/* Writes what is left of the files in `from` to the folder `to`, which is there. Forgets the images. */
void power_restore(const char *from, const char *to, uint64_t seed);

#endif
