/* SPDX-License-Identifier: MIT
 *
 * The engine's public header: all that app may know of models and devices.
 *
 *   struct engine    a loaded model on one device; read-only once open.
 *   struct timeline  one mutable state: tokens read so far, KDA states, convolution histories, MLA rows, last logits.
 *
 * The caller says what the text is now (timeline_sync with the whole token prefix); the timeline reuses, extends or
 * rebuilds. One thread at a time uses an engine and its timelines; engines are independent of each other.
 * Ownership: whatever a function hands out through `**out` is the caller's to destroy; `const` pointers belong to the
 * object they came from. Functions return 0 or an error_code and set *error.
 */
#ifndef LECTERN_ENGINE_ENGINE_H
#define LECTERN_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/error.h"

/* ------------------------------------------------------------------------------------------------ devices */

struct engine_device {
    char name[128];      /* "NVIDIA H100", "llvmpipe ...", or the CPU's name */
    char id[16];         /* what --device takes: "cpu", "vulkan:0" */
    bool is_software;    /* a Vulkan device without hardware behind it */
    bool is_usable;      /* false: `note` says what is missing */
    bool has_matrices;   /* multiplies f16 matrices in hardware */
    uint64_t memory;     /* bytes of device-local memory (the CPU: of physical memory) */
    uint64_t memory_free; /* bytes free now, or = memory when the device does not tell */
    char note[256];      /* capabilities in one line: subgroup size, f16, cooperative matrices, ... or why not usable */
};

/* Lists up to cap devices; the CPU comes first. Without a Vulkan loader the CPU alone is listed: no error. */
int engine_devices(struct engine_device *list, size_t cap, size_t *count, struct error *error);
/* Are there Vulkan kernels for weights of this block format ("Q4_K")? The cpu takes all. */
bool engine_gpu_takes(const char *format);

/* ------------------------------------------------------------------------------------------------- engine */

struct engine;
struct timeline;

enum engine_dtype { ENGINE_F32 = 0, ENGINE_F16 = 1, ENGINE_Q8_0 = 8 };

struct engine_params {
    const char *model;             /* path of a GGUF file */
    const char *device;            /* "auto" (a real GPU, else cpu), "cpu", "vulkan", "vulkan:N"; NULL = auto */
    uint32_t context;              /* most tokens a timeline may hold; 0 = the model's own, or what fits where that is less */
    uint32_t batch;                /* tokens evaluated at once in prefill; 0 = 1024 on a real GPU with room, else 512 */
    uint32_t threads;              /* CPU threads; 0 = all cores */
    enum engine_dtype state_dtype; /* KDA state as saved and kept: F32 or F16 */
    enum engine_dtype rows_dtype;  /* MLA rows: F32, F16 or Q8_0 */
    enum engine_dtype activations; /* on the cpu: F32, or Q8_0: rounded to bytes before they meet matrices of a format
                                    * that allows it; quicker, and a token's result is still the same in any batch */
    const char *cache_dir;         /* a folder for compiled kernels, made when needed; NULL = they are not kept */
    bool validate;                 /* run under the Vulkan validation layers; messages count as failures */
    bool (*progress)(void *ctx, uint64_t done, uint64_t total); /* bytes of weights loaded; false cancels; may be NULL */
    void *progress_ctx;
    /* Told, on the calling thread, of every input of every matrix: `tensor` is its name in the file, `mat` which one of
     * a stack (expert, head), x is [n][width]. On the cpu alone: another device is ERROR_USAGE. May be NULL. */
    void (*observe)(void *ctx, const char *tensor, uint32_t mat, const float *x, uint32_t n, uint32_t width);
    void *observe_ctx;
};

/* What opening would need. Filled by engine_plan without touching the device's memory. */
struct engine_plan {
    uint64_t weights;   /* bytes on the device */
    uint64_t rows;      /* MLA rows at the asked context */
    uint64_t state;     /* KDA states and convolution histories */
    uint64_t workspace; /* activations and staging */
    uint64_t available; /* bytes the device has free */
    uint32_t context;   /* tokens asked */
    uint32_t context_own;  /* tokens that the model was made for */
    uint32_t context_fits; /* tokens that would fit; 0 = not even the weights */
    bool fits;
    bool is_cpu;        /* the weights are read where the file is mapped, and are not held against `available` */
    uint64_t host;      /* bytes on this machine beside the device: staging, and states on their way to the disk */
    uint64_t host_available;
    char device_id[16], device_name[128];
};

struct engine_info {
    char model_name[128];
    char architecture[32];
    char device_name[128];
    char device_id[16];
    uint32_t n_layer, n_kda, n_mla; /* layers; of them KDA and MLA */
    uint32_t n_vocab, n_embd;
    uint32_t context, batch;
    uint64_t weight_bytes;
    uint64_t row_bytes;          /* one token's MLA rows, all layers */
    uint64_t state_bytes;        /* one snapshot */
    uint64_t parameters;         /* weights in the model */
    uint8_t model_fingerprint[32]; /* SHA-256: see docs/state-format.md, "Model fingerprint" */
    uint8_t state_key[32];       /* model fingerprint + layout version + dtypes: states with another key do not fit */
    enum engine_dtype state_dtype, rows_dtype;
    uint32_t validation_messages; /* so far, when params.validate */
    uint64_t tokens_evaluated;    /* so far, by all its timelines */
};

int engine_plan(struct engine_plan *out, const struct engine_params *params, struct error *error);
int engine_open(struct engine **out, const struct engine_params *params, struct error *error);
void engine_close(struct engine **engine); /* all its timelines must be gone */
const struct engine_info *engine_info(const struct engine *);
/* The state key that this model would have with other types: tells whose a stored state is. */
int engine_state_key(const struct engine *, enum engine_dtype state_dtype, enum engine_dtype rows_dtype,
                     uint8_t key[32], struct error *error);

/* ------------------------------------------------------------------------------------------------ profiles */

struct engine_timing { /* all runs of one operation */
    char label[32];
    double seconds, bytes, flops; /* bytes: memory that had to move */
    uint64_t count;
    bool on_host; /* not on the device's clock: what the host needs to record a batch */
};
struct engine_peaks { /* what the device can do, measured; 0 = unknown */
    double bytes_per_second; /* a copy, read and written bytes both counted */
    double flops_per_second; /* f16 products on cooperative matrices; 0 also where there are none */
};
/* Times every operation on the device's own clock from now on, those so far forgotten; timing keeps operations from
 * overlapping, so that sums are for comparing parts. ERROR_FIT when the device (the cpu, say) has no such clock. */
int engine_profile_start(struct engine *, struct engine_peaks *, struct error *error);
/* At most cap sums, the longest first; their number. */
size_t engine_profile_read(struct engine *, struct engine_timing *out, size_t cap);

/* Products of a device with matrices of each weight format, of arbitrary bits. No model is needed. */
struct engine_format_speed {
    const char *name;
    double bytes, one_seconds;   /* a large matrix, and one token's product with it */
    double flops, batch_seconds; /* 512 tokens' product with a smaller one */
};
/* At most cap formats in the order of their type numbers. Of params the device and how it works are looked at; progress
 * is told formats. peaks: zeros where the device has no clock. */
int engine_format_speeds(struct engine_format_speed *out, size_t cap, size_t *count, struct engine_peaks *peaks,
                         const struct engine_params *params, struct error *error);

/* ------------------------------------------------------------------------------------------------- tokens */

struct token_list {
    uint32_t *ids;
    size_t count, capacity;
};
int token_list_push(struct token_list *, uint32_t id, struct error *error);
int token_list_append(struct token_list *, const uint32_t *ids, size_t count, struct error *error);
void token_list_free(struct token_list *);

/* Appends the tokens of UTF-8 text. Special tokens are never recognised in it: "<|im_end|>" stays text.
 * Invalid UTF-8 is tokenised as bytes. */
int engine_tokenize(const struct engine *, const char *text, size_t len, struct token_list *out, struct error *error);

/* The bytes a token stands for (specials: none). Not NUL-terminated; valid for the engine's life. */
const char *engine_token_bytes(const struct engine *, uint32_t id, size_t *len);
/* The name of a special token, or NULL for an ordinary one. */
const char *engine_special_name(const struct engine *, uint32_t id);
bool engine_is_stop(const struct engine *, uint32_t id); /* <|im_end|>, [EOT], [EOS], or what the file tells */

/* Tokens -> UTF-8 as it streams: bytes of an incomplete character are held back until it completes (or is broken:
 * then U+FFFD). Zero-initialise. */
struct utf8_stream {
    unsigned char held[4];
    unsigned n_held;
};
/* Feeds n bytes; writes at most n*3 + 4 bytes of valid UTF-8 to out and returns their number. */
size_t utf8_stream_push(struct utf8_stream *, const char *bytes, size_t n, char *out);
size_t utf8_stream_end(struct utf8_stream *, char *out); /* what is still held, as U+FFFD */

/* --------------------------------------------------------------------------------------------------- chat */

enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT };

/* The prompt is a list of turns in the template of the model: Kimi's, <|im_ROLE|>ROLE<|im_middle|>text<|im_end|>, or
 * DeepSeek-V2's, "User: text" and a blank line, "Assistant: text" and the end; begin puts [BOS].
 * A turn may be built in pieces: open, the beginning of the text by chat_text, the rest by engine_tokenize, close.
 * Because a document ends with a blank line before the question, text tokenised piecewise at that point gives the ids
 * of the whole. */
int chat_begin(const struct engine *, struct token_list *out, struct error *error);
int chat_open(const struct engine *, enum chat_role role, struct token_list *out, struct error *error);
int chat_text(const struct engine *, enum chat_role role, const char *text, size_t len, struct token_list *out,
              struct error *error);
int chat_close(const struct engine *, enum chat_role role, struct token_list *out, struct error *error);
/* A sentence for people where the file's own template is absent or of no known shape: which is used. Else NULL. */
const char *chat_note(const struct engine *);
/* open + text + close */
int chat_turn(const struct engine *, enum chat_role role, const char *text, size_t len, struct token_list *out,
              struct error *error);

/* ----------------------------------------------------------------------------------------------- sampling */

struct sample_params {
    float temperature; /* 0 = greedy */
    uint32_t top_k;    /* 0 = off */
    float top_p;       /* 1 = off */
    float min_p;       /* 0 = off */
    uint64_t seed;
};
struct sampler;
int sampler_create(struct sampler **out, const struct sample_params *, uint32_t n_vocab, struct error *error);
void sampler_destroy(struct sampler **);
/* Picks from logits [n_vocab]. NaN logits never win; with all NaN the first id. */
uint32_t sampler_next(struct sampler *, const float *logits);

/* ----------------------------------------------------------------------------------------------- timeline */

/* Called between batches, on the calling thread. false stops: the call returns ERROR_CANCELLED and the timeline stands
 * at the last whole batch. */
struct eval_hooks {
    bool (*progress)(void *ctx, size_t done, size_t total); /* tokens evaluated in this call, and to evaluate */
    void *ctx;
};

int timeline_create(struct timeline **out, struct engine *, struct error *error);
void timeline_destroy(struct timeline **);
size_t timeline_length(const struct timeline *);
const uint32_t *timeline_tokens(const struct timeline *); /* [length] */
const float *timeline_logits(const struct timeline *);    /* [n_vocab], after the last token; NULL when length is 0 */

/* Evaluates count more tokens. Batches end at absolute multiples of the engine's batch, so that stopping at such a
 * point and going on changes nothing. logits_all: NULL, or count x n_vocab floats, row i after ids[i]. */
int timeline_append(struct timeline *, const uint32_t *ids, size_t count, float *logits_all,
                    const struct eval_hooks *hooks, struct error *error);

/* Makes the timeline stand exactly at ids[0, count): keeps what it has where it is a prefix, goes back to the nearest
 * mark where it is not, else starts over. *reused gets the tokens not evaluated again (may be NULL). */
int timeline_sync(struct timeline *, const uint32_t *ids, size_t count, const struct eval_hooks *hooks, size_t *reused,
                  struct error *error);

/* For measurements: stands at count tokens as if it had read them, with rows and states of zeros. Starts over first. */
int timeline_pretend(struct timeline *, const uint32_t *ids, size_t count, struct error *error);

/* How many leading tokens of ids timeline_sync would keep, without changing anything. */
size_t timeline_reusable(const struct timeline *, const uint32_t *ids, size_t count);

/* Remembers the state at the present length inside the timeline (device memory: state_bytes), for timeline_sync. Marks
 * that going back can do without are dropped: those between two others no further apart than an eighth of what lies
 * behind them, so that going back a distance d from here evaluates at most d / 8 tokens again wherever marks were set
 * that close. Of more than `most` the one that is missed least goes; most = 0 drops all. */
int timeline_mark(struct timeline *, uint32_t most, struct error *error);

void timeline_clear(struct timeline *);

/* -------------------------------------------------------------------------------------------------- state */
/* A timeline as bytes, docs/state-format.md: append-only row segments of STATE_SEGMENT tokens (the last may be shorter)
 * and snapshots. All bytes given back to us are hostile: checked in full before anything is changed. */

#define STATE_SEGMENT 512u /* tokens in a full row segment */

struct blob {
    void *data;
    size_t size;
};
void blob_free(struct blob *);

/* Rows of tokens [first, first + count), all MLA layers. */
int timeline_save_rows(struct timeline *, size_t first, size_t count, struct blob *out, struct error *error);
/* KDA states, histories and logits at the present length. */
int timeline_save_snapshot(struct timeline *, struct blob *out, struct error *error);

/* Restoring: begin, all row segments in order, the snapshot, finish. Until finish nothing else changes; a refused piece
 * (ERROR_STATE, with the reason) leaves the restore to be aborted. The result is a new timeline at ids[0, count),
 * whose logits and continuation are bit-identical to those of the saved one on the same device. */
struct restore;
int restore_begin(struct restore **out, struct engine *, const uint32_t *ids, size_t count, struct error *error);
int restore_rows(struct restore *, const void *bytes, size_t size, struct error *error);
int restore_snapshot(struct restore *, const void *bytes, size_t size, struct error *error);
/* For quick restores, where others read and verify pieces ahead. restore_verify checks the form and the checksum of a
 * piece, in any thread; after restore_expect_verified the caller sees to it that every piece has passed, and
 * restore_rows and restore_snapshot leave the checksum out. restore_room is where the device best takes a piece of that
 * size from: the caller's to fill until it was given to restore_rows or the restore ends; NULL: anywhere else. */
int restore_verify(const void *bytes, size_t size, struct error *error);
void restore_expect_verified(struct restore *);
void *restore_room(struct restore *, size_t size);
int restore_finish(struct restore **, struct timeline **out, struct error *error); /* frees the restore in any case */
void restore_abort(struct restore **);

/* Goes back to a saved snapshot of the timeline's own first tokens, whose rows are still there: 43 MB of the 48B instead
 * of a gigabyte. Checked like a restore; what is refused (ERROR_STATE) has changed nothing. */
int timeline_go_back(struct timeline *, const void *snapshot, size_t size, struct error *error);

#endif
