/* SPDX-License-Identifier: MIT
 *
 * Inside the Vulkan backend. One file for each kind of thing:
 *
 *   api.c       the Vulkan functions, found at run time
 *   device.c    instance, physical devices and what they can do, logical device
 *   memory.c    device memory, by buffer device address
 *   transfer.c  uploads, downloads, what travels with a batch
 *   command.c   recording: dispatches, copies, the barriers between them; submitting and waiting
 *   weight.c    weights, packed for wide loads
 *   codebook.c  the codebooks of the IQ formats
 *   pipeline.c  kernels: a shader with its specialisation constants, made when first asked for
 *   cache.c     compiled kernels kept on disk
 *   backend.c   the table of operations, opening and closing
 *   ops_*.c     the operations: which kernels, with which parameters
 *
 * An operation calls gpu_dispatch with a kernel, its parameters (structs of shaders/params.h, sent as push constants)
 * and the memory it reads and writes. The recorder puts a barrier before a dispatch exactly when one of those ranges
 * conflicts with what has been touched since the last barrier. Every operand is an address; there is one descriptor,
 * of the codebooks.
 *
 * Failure while recording is kept in gpu->error (the first one wins), turns the rest of the recording into nothing,
 * and is what submit returns.
 */
#ifndef LECTERN_ENGINE_GPU_GPU_H
#define LECTERN_ENGINE_GPU_GPU_H

#include "engine/gpu/api.h"
#include "engine/ops.h"
#include "engine/pool.h"
#include "shaders.h"
#include "shaders/params.h"

/* ------------------------------------------------------------------------------------------------ capabilities */

/* What a device can do, asked once; the only thing by which kernels and their sizes are chosen. */
struct gpu_caps {
    char name[128];
    bool is_software;      /* a processor's: kernels are shaped for it */
    bool is_unified;       /* device memory is host memory: mapped, no staging */
    uint32_t subgroup;     /* invocations of a subgroup, in every kernel: 8 .. 64, a power of two */
    bool subgroup_control; /* the subgroup size can be, and is, demanded */
    uint32_t shared_bytes; /* shared memory of a workgroup */
    uint32_t group_max;    /* invocations of a workgroup */
    uint64_t alloc_max;    /* bytes of one allocation */
    bool f16;              /* f16 arithmetic */
    bool coopmat;          /* KHR_cooperative_matrix, 16x16x16, f16 in, f32 out, subgroup scope */
    bool plain_matrices;   /* for tests: the same kernels in plain arithmetic */
    bool budget;           /* VK_EXT_memory_budget */
    double tick_ns;        /* of a timestamp; 0 = none */
    uint64_t memory, memory_free;
    const char *missing; /* what keeps us from using it, or NULL */
};

/* ------------------------------------------------------------------------------------------------------ objects */

struct gpu_block;  /* memory.c: one VkDeviceMemory with one VkBuffer over it */
struct gpu_kernel; /* pipeline.c */

struct gpu_range { /* memory a command touches */
    uint64_t addr, bytes;
};
/* The rows of timelines, which kernels reach through tables that the host does not follow: an address of nothing else.
 * Inside a batch only such kernels touch rows. */
#define GPU_ROWS ((struct gpu_range){1, 1})

enum {
    GPU_RANGES = 12,
    GPU_SPECS = 8,
    GPU_TOUCHED = 64,
    GPU_STAGES = 2,
    GPU_ROOMS = 16,
    GPU_COMMANDS = 4,
    GPU_PUTS = 4
};

struct gpu_dispatch {
    const char *label; /* for profiles and debuggers; a literal */
    enum shader shader;
    uint32_t spec[GPU_SPECS]; /* specialisation constants 0, 1, ...; constant 0 is the workgroup's size in x */
    uint32_t n_spec;
    const void *params;    /* push constants */
    uint32_t params_bytes; /* <= 128 */
    uint32_t groups[3];    /* workgroups; 0 counts as 1 */
    uint64_t indirect;     /* address of three u32 in place of groups, or 0; list it in reads too */
    struct gpu_range reads[GPU_RANGES], writes[GPU_RANGES]; /* bytes 0 = unused; what is read and written: in both */
    double bytes, flops; /* for profiles: memory that has to move (0 = all of the ranges), operations */
};

struct gpu_recorder {
    VkCommandPool pool;
    VkCommandBuffer buffers[GPU_COMMANDS]; /* one per submission in flight */
    uint64_t ends[GPU_COMMANDS];           /* timeline value at which each is free again */
    uint32_t current;
    bool recording;
    uint64_t batch; /* number of the batch being recorded, or of the last */
    VkPipeline bound;
    struct gpu_range read[GPU_TOUCHED], written[GPU_TOUCHED]; /* since the last barrier */
    uint32_t n_read, n_written;
    bool transfers; /* since the last barrier */
    bool narrow;    /* the last barrier was for kernels only */
    uint32_t dispatches, barriers; /* of this batch */
};

struct gpu_host { /* host memory that the device reaches */
    struct gpu_block *block;
    VkBuffer buffer;
    unsigned char *bytes;
    size_t size;
};

struct gpu_stage { /* host memory on its way to or from the device */
    struct gpu_host host;
    uint64_t end; /* timeline value at which it is free again */
};

struct gpu_rooms {            /* the stages, lent for a restore: count 0 = they are not */
    size_t bytes;             /* of a room */
    uint32_t count, each;     /* each: of a stage */
    uint32_t next;            /* to be lent */
    bool lent[GPU_ROOMS];     /* and not uploaded from yet */
    uint64_t ends[GPU_ROOMS]; /* timeline values at which they are free again */
};

struct gpu_fetch { /* what a batch brings back: bytes 0 = nothing */
    void *to;
    size_t bytes;
};
struct gpu_put { /* what a batch takes along */
    const void *from;
    size_t bytes, at; /* in the host memory it goes through */
};

struct gpu_codebook { /* codebook.c: the table, and what binds it; all but the layout only when loaded */
    uint64_t addr;
    VkDescriptorSetLayout layout;
    VkDescriptorPool pool;
    VkDescriptorSet set;
};

/* Rows of activations as halves; the rest is used inside one operation, so that all kinds of them share it. */
enum gpu_scratch_use {
    GPU_SCRATCH_PACK,
    GPU_SCRATCH_MOE,
    GPU_SCRATCH_KDA = GPU_SCRATCH_MOE,
    GPU_SCRATCH_MLA = GPU_SCRATCH_MOE,
    GPU_SCRATCH_COUNT
};

struct gpu {
    struct backend base;
    struct gpu_api vk;
    struct gpu_caps caps;
    VkInstance instance;
    VkDebugUtilsMessengerEXT messenger;
    uint32_t layer_version; /* of the validation layer; 0 = not validating */
    uint32_t messages;      /* of the validation layers */
    char message[256];      /* the first of them */
    VkPhysicalDevice physical;
    VkDevice device;
    uint32_t queue_family;
    VkQueue queue;
    VkPhysicalDeviceMemoryProperties memory_types;

    VkSemaphore timeline; /* counts submissions */
    uint64_t submitted;

    struct gpu_block **blocks; /* sorted by address */
    uint32_t n_blocks, cap_blocks;
    struct gpu_stage stages[GPU_STAGES], aside[GPU_STAGES];
    uint32_t next_stage;
    struct gpu_rooms rooms;
    struct gpu_host results, inbox;
    struct gpu_fetch fetch, fetching; /* of the batch being recorded, and of the one that runs */
    struct gpu_put puts[GPU_PUTS];
    uint32_t n_puts;
    struct pool *pool; /* host threads that fill staging memory */

    struct gpu_recorder recorder;
    struct gpu_profile *profile; /* command.c: NULL unless timing */

    struct gpu_codebook codebook;
    VkPipelineCache pipeline_cache;
    char *cache_path;   /* its file, or NULL */
    size_t cache_bytes; /* of it, when it was read */
    VkPipelineLayout pipeline_layout;
    struct gpu_kernel *kernels[SHADER_COUNT]; /* a list for each shader */

    struct gpu_range scratch[GPU_SCRATCH_COUNT];
    uint64_t pack_at; /* ops_matmul.c: where the ring of packed rows goes on */
    uint32_t batch;   /* most tokens of an operation, from prepare */
    struct error error;
};

static inline struct gpu *gpu_of(struct backend *b)
{
    return (struct gpu *)b;
}

/* Keeps the first failure. Returns code. */
int gpu_fail(struct gpu *, enum error_code code, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;
/* A Vulkan result as one of our codes and a sentence: "what" failed. */
int gpu_result(struct error *, VkResult, const char *what);

/* ---------------------------------------------------------------------------------------------------- device.c */

int gpu_instance_create(struct gpu *, bool validate, struct error *);
/* The physical devices, in the loader's order; the caller frees *list. */
int gpu_physical_list(struct gpu *, VkPhysicalDevice **list, uint32_t *count, struct error *);
void gpu_caps_query(const struct gpu *, VkPhysicalDevice, struct gpu_caps *);
/* One line for people: "subgroup 32, f16, cooperative matrices". */
void gpu_caps_describe(const struct gpu_caps *, char *out, size_t size);
int gpu_device_create(struct gpu *, struct error *);
void gpu_device_destroy(struct gpu *); /* device and instance */

/* ---------------------------------------------------------------------------------------------------- memory.c */

int gpu_alloc(struct gpu *, size_t bytes, const char *label, uint64_t *addr, struct error *);
void gpu_release(struct gpu *, uint64_t addr);
/* The buffer over an address, and the offset in it. */
bool gpu_find(const struct gpu *, uint64_t addr, VkBuffer *buffer, VkDeviceSize *offset);
/* Makes gpu->scratch[use] at least `bytes` long; called from the prepare functions only. Without a device it only notes
 * the size: a plan. */
int gpu_scratch_reserve(struct gpu *, enum gpu_scratch_use, size_t bytes, struct error *);
/* Where the host sees [addr, addr + bytes), NULL where it does not. An error when that is not allocated. */
int gpu_reach(const struct gpu *, uint64_t addr, size_t bytes, unsigned char **mapped, struct error *);
int gpu_host_create(struct gpu *, struct gpu_host *, size_t bytes, const char *label, struct error *);
void gpu_host_destroy(struct gpu *, struct gpu_host *);
void gpu_memory_destroy(struct gpu *);

/* -------------------------------------------------------------------------------------------------- transfer.c */

struct gpu_source { /* bytes to upload, made by several threads at once */
    void (*read)(const void *ctx, size_t offset, size_t bytes, unsigned char *to);
    const void *ctx;
    size_t grain; /* offsets are multiples of it */
};
int gpu_upload_from(struct gpu *, uint64_t dst, size_t bytes, const struct gpu_source *, struct error *);
int gpu_upload(struct gpu *, uint64_t dst, const void *src, size_t bytes, struct error *);
int gpu_download(struct gpu *, void *dst, uint64_t src, size_t bytes, struct error *);
/* As backend_ops has them. */
void *gpu_room(struct gpu *, size_t bytes);
void gpu_rooms_end(struct gpu *);
/* Recorded, as backend_ops has them. */
void gpu_put(struct gpu *, uint64_t dst, const void *src, size_t bytes);
void gpu_fetch(struct gpu *, void *dst, uint64_t src, size_t bytes);
void gpu_travel_drop(struct gpu *);            /* the batch is given up */
void gpu_travel_start(struct gpu *);           /* the batch is about to run */
void gpu_travel_finish(struct gpu *, bool ok); /* it ran, or failed */
void gpu_transfer_destroy(struct gpu *);

/* ---------------------------------------------------------------------------------------------------- weight.c */

int gpu_weight_load(struct backend *, const struct gguf_tensor *, struct weight *out, struct error *);

/* -------------------------------------------------------------------------------------------------- codebook.c */

/* Whether kernels decode a format through a codebook. */
bool gpu_codebook_wanted(const struct quant_format *);
int gpu_codebook_layout(struct gpu *, struct error *); /* before pipelines are made */
/* Before the first weight of such a format is used. Again: nothing. */
int gpu_codebook_load(struct gpu *, struct error *);
void gpu_codebook_bind(struct gpu *, VkCommandBuffer);
void gpu_codebook_destroy(struct gpu *);

/* --------------------------------------------------------------------------------------------------- command.c */

int gpu_commands_create(struct gpu *, struct error *);
void gpu_commands_destroy(struct gpu *);
int gpu_begin(struct gpu *, struct error *);
/* Gives up what was recorded and not submitted. */
void gpu_recording_drop(struct gpu *);
int gpu_start(struct gpu *, struct error *);
int gpu_finish(struct gpu *, struct error *);
int gpu_submit(struct gpu *, struct error *);               /* both */
int gpu_wait(struct gpu *, uint64_t value, struct error *); /* until the timeline has reached value */
/* Ends and submits the command buffer, without waiting. The timeline reaches gpu->submitted when it is done. */
int gpu_flush(struct gpu *, VkCommandBuffer, struct error *);
/* A command buffer begun for one transfer outside a batch. */
int gpu_transfer_begin(struct gpu *, VkCommandBuffer *, struct error *);

/* The command buffer of the batch, for a command that touches so much; NULL when nothing is recorded any more. */
VkCommandBuffer gpu_record(struct gpu *, struct gpu_range read, struct gpu_range written);
void gpu_dispatch(struct gpu *, const struct gpu_dispatch *);
void gpu_fill(struct gpu *, uint64_t dst, uint32_t word, size_t bytes);
void gpu_copy(struct gpu *, uint64_t dst, uint64_t src, size_t bytes);

/* -------------------------------------------------------------------------------------------------- pipeline.c */

int gpu_pipelines_create(struct gpu *, struct error *);
void gpu_pipelines_destroy(struct gpu *);
/* The pipeline of a dispatch, from the cache or made now; VK_NULL_HANDLE and gpu->error on failure. */
VkPipeline gpu_pipeline(struct gpu *, const struct gpu_dispatch *);
/* The variant of a shader family for a weight type: first is the family's first member, SHADER_MATVEC_F32, say.
 * SHADER_COUNT when the type has none. */
enum shader gpu_variant(enum shader first, const struct quant_format *);

/* ----------------------------------------------------------------------------------------------------- cache.c */

/* Between gpu_pipelines_create and the first dispatch: what the folder keeps of earlier runs. */
void gpu_cache_open(struct gpu *, const char *dir);
/* Writes the file anew when there is more to keep. Before gpu_pipelines_destroy. */
void gpu_cache_close(struct gpu *);

/* -------------------------------------------------------------------------------------------------- operations */
/* ops_dense.c, ops_moe.c, ops_kda.c, ops_mla.c, ops_rope.c: the recorded operations of struct backend_ops. A prepare
 * reserves the scratch memory of its file for batches of n tokens. */

static inline uint32_t gpu_div_up(uint64_t a, uint64_t b)
{
    return (uint32_t)((a + b - 1) / b);
}
/* n floats at addr */
static inline struct gpu_range gpu_floats(uint64_t addr, uint64_t n)
{
    return (struct gpu_range){addr, n * sizeof(float)};
}
static inline struct gpu_range gpu_weight_range(const struct weight *w)
{
    return (struct gpu_range){w->addr, w->mat_bytes * w->n_mat};
}

void gpu_embed(struct backend *, const struct weight *table, uint64_t ids, uint64_t x, uint32_t n);
void gpu_rms_norm(struct backend *, uint64_t x, uint64_t gain, uint64_t y, uint32_t n, uint32_t width, float eps);
void gpu_swiglu(struct backend *, uint64_t gate, uint64_t up, uint64_t y, uint32_t n, uint32_t width);
void gpu_matmul(struct backend *, uint64_t x, const struct matmul_job *, uint32_t count, uint32_t n);

/* ops_matvec.c. gpu_matvec is norm_matmul, without the norm where gain is 0; false: too many tokens, or with a norm. */
bool gpu_matvec(struct gpu *, const struct norm_matmul *);
void gpu_norm_matmul(struct backend *, const struct norm_matmul *);

/* Kernels for one token (shaders/..._one.comp): whether they are for this device and batch; how rows of n_in are
 * divided (spec constants 3 and 4); vec4 of shared memory for so many vectors of n_in (spec constant 5), 0 = more than
 * there is; whether a is a 31-bit number of units from b. */
enum { GPU_ONE_GROUP = 256 }; /* invocations of a workgroup: enough rows to be worth staging for */
struct gpu_teams {
    uint32_t team, rows; /* invocations of a row, rows of a team */
};
struct gpu_parts { /* shaders/parted.glsl: spec constants 0 and 3 to 5; rows of a workgroup */
    uint32_t group, team, ahead, steps, rows;
};
/* For so many rows of w in all, which meet `vectors` vectors. */
struct gpu_parts gpu_parts_choose(const struct gpu *, const struct weight *w, uint64_t rows, uint32_t vectors);
bool gpu_one_serves(const struct gpu *, uint32_t n);
struct gpu_teams gpu_teams_choose(const struct gpu *, uint64_t rows, uint32_t n_in);
uint32_t gpu_stage_size(const struct gpu *, uint32_t n_in, uint32_t vectors);
bool gpu_in_reach(uint64_t a, uint64_t b, uint64_t unit);

/* ops_decode.c: several operations in few dispatches, for one token. */
bool gpu_kda_block(struct backend *, const struct kda_block *);
bool gpu_moe_block(struct backend *, const struct moe_block *);

/* gpu_swiglu with distances between rows. */
void gpu_swiglu_rows(struct gpu *, const struct params_swiglu *, uint32_t n);

/* Output rows of a subgroup of matvec.comp and its kin, for so many tokens. */
uint32_t gpu_matvec_rows(const struct gpu *, uint32_t columns);

static inline bool gpu_has_matrices(const struct gpu *gpu)
{
    return gpu->caps.coopmat || gpu->caps.plain_matrices;
}
int gpu_matmul_prepare(struct gpu *, const struct shape *, uint32_t n, struct error *);
/* Whether products of many tokens with w are of halves, and their x has to be packed. */
bool gpu_takes_halves(const struct gpu *, const struct weight *w);

/* Rows of x as halves, each times a power of two that `scale` undoes (shaders/pack.comp). Valid for the next few
 * operations. */
struct gpu_packed {
    struct gpu_range range;
    uint64_t scale;  /* f32 [n] */
    uint32_t stride; /* halves from one row to the next */
};
/* Of n rows of width floats, or of silu(x) * up where up is given, x_stride floats apart. */
struct gpu_packed gpu_pack(struct gpu *, uint64_t x, uint64_t up, uint32_t n, uint32_t width, uint32_t x_stride);
uint64_t gpu_packed_bytes(uint64_t n, uint32_t width);

/* Rows of x sorted by matrix, each times its own matrix of a stack (moe_sort.comp makes the tiles). */
struct gpu_grouped {
    const struct weight *w;
    uint64_t x, y;                   /* y: [rows][n_out] */
    const struct gpu_packed *packed; /* x, needed where gpu_takes_halves */
    struct gpu_range tiles;          /* u32 [..][4] */
    uint64_t groups;                 /* u32 [3], workgroups: gpu_row_tiles, tiles, 1 */
    uint64_t order;                  /* u32 [rows]: row i of x is token order[i] / share; 0 = i */
    uint32_t tokens;                 /* of a tile: one of gpu_grouped_tokens */
    bool beside;                     /* the product before it is into the same y, other rows */
    uint32_t rows, share;
    uint32_t x_stride; /* floats from one row of x to the next; 0 = n_in */
};
struct gpu_tile_sizes { /* most tokens of a tile */
    uint32_t small, large; /* large 0: there are only small ones */
};
struct gpu_tile_sizes gpu_grouped_tokens(const struct gpu *, uint32_t slots, uint32_t n_expert);
uint32_t gpu_row_tiles(const struct gpu *, const struct weight *);
void gpu_matmul_grouped(struct gpu *, const struct gpu_grouped *);
/* Rows are whole runs of 32 weights, and activations aligned for wide loads: WHOLE of shaders/run.glsl. */
bool gpu_is_whole(const struct weight *, uint64_t x);

int gpu_moe_prepare(struct gpu *, const struct shape *, uint32_t n, struct error *);
/* Scratch memory for the hidden layers of so many slots: [slots][F]. */
uint64_t gpu_moe_hidden(const struct gpu *, uint32_t slots, const struct weight *down);
void gpu_moe_route(struct backend *, const struct moe_route *);
void gpu_moe_experts(struct backend *, const struct moe_experts *);

int gpu_kda_prepare(struct gpu *, const struct shape *, uint32_t n, struct error *);
void gpu_kda_conv(struct backend *, const struct kda_conv *);
void gpu_kda_gate(struct backend *, const struct kda_gate *);
void gpu_kda_delta(struct backend *, const struct kda_delta *);
void gpu_kda_out(struct backend *, const struct kda_out *);

/* ops_rope.c. gpu_route is moe_route in all its forms, by way of gpu_moe_route where that serves. */
void gpu_rope(struct backend *, const struct rope *);
void gpu_route(struct backend *, const struct moe_route *);

int gpu_mla_prepare(struct gpu *, const struct shape *, uint32_t n, struct error *);
void gpu_mla_store(struct backend *, const struct mla_store *);
void gpu_mla_attend(struct backend *, const struct mla_attend *);

#endif
