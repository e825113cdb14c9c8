/* SPDX-License-Identifier: MIT
 *
 * The layout of a prompt as tokens. A session's prompt is one growing list:
 *
 *   [BOS] system-turn | user-open documents "\n\n"        prompt_prefix: shared by every question
 *   question close assistant-open                         prompt_question: the tokens of a user turn
 *   answer close                                          the tokens of an assistant turn
 *   user-open question close assistant-open  ...          later questions open their own turn
 *
 * One document stands alone; each after it is preceded by "File: NAME" and a blank line, the second also by a sentence
 * that names the first: what is added at the end leaves the tokens before it as they were. The prefix ends after the
 * blank line, because a full stop takes the line ends behind it into its own token: cut there, pieces give the same ids
 * as the whole.
 */
#ifndef LECTERN_APP_PROMPT_H
#define LECTERN_APP_PROMPT_H

#include "app/worker.h"

extern const char prompt_system_text[];

/* Appends to *out. system_text: NULL = the default. No documents: the prefix ends with user-open. */
int prompt_prefix(const struct engine *, const char *system_text, const struct worker_document *, size_t count,
                  struct token_list *out, struct error *);
/* What a question stands behind: an answer, the documents of the prefix, or a prefix without documents. */
enum prompt_place { PROMPT_LATER, PROMPT_ON_DOCUMENTS, PROMPT_ALONE };
/* White space around the question is dropped; an empty one is ERROR_USAGE. */
int prompt_question(const struct engine *, const char *question, size_t len, enum prompt_place, struct token_list *out,
                    struct error *);
/* An answer given as text, for a session that another model wrote. */
int prompt_answer(const struct engine *, const char *answer, size_t len, struct token_list *out, struct error *);

/* A turn as it is kept: its words, and the tokens that some model had for them. */
struct prompt_turn {
    bool is_question;
    enum prompt_place place; /* of a question */
    const char *text;
    size_t len;
    const uint32_t *ids;
    size_t n_ids;
};
/* Appends the kept tokens where they spell the words in this model's vocabulary, framed as this model frames a turn:
 * then they are what was read or sampled. Else another model had them, and the words are tokenised. */
int prompt_kept_turn(const struct engine *, const struct prompt_turn *, struct token_list *out, struct error *);

#endif
