/* SPDX-License-Identifier: MIT
 *
 * The input and its history, without a screen.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/editline.h"
#include "app/history.h"

static void put(struct editline *line, const char *s)
{
    assert_int_equal(editline_insert(line, s, strlen(s), NULL), 0);
}
static void act(struct editline *line, enum edit_op op)
{
    assert_int_equal(editline_do(line, op, NULL), 0);
}

/* `wanted` has '^' where the cursor stands. */
static void check(const struct editline *line, const char *wanted)
{
    char got[512];
    snprintf(got, sizeof got, "%.*s^%s", (int)line->cursor, editline_text(line), editline_text(line) + line->cursor);
    assert_string_equal(got, wanted);
}

static void typing_moves_and_deletes_by_grapheme(void **state)
{
    (void)state;
    struct editline line = {0};
    act(&line, EDIT_LEFT);
    act(&line, EDIT_BACKSPACE);
    check(&line, "^");
    put(&line, "ae\xcc\x81\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb");
    act(&line, EDIT_BACKSPACE);
    check(&line, "ae\xcc\x81^");
    act(&line, EDIT_LEFT);
    check(&line, "a^e\xcc\x81");
    act(&line, EDIT_DELETE);
    check(&line, "a^");
    editline_free(&line);
}

static void words_are_killed_and_yanked(void **state)
{
    (void)state;
    struct editline line = {0};
    put(&line, "who is the captain");
    act(&line, EDIT_KILL_BLANK_BACK);
    check(&line, "who is the ^");
    act(&line, EDIT_LINE_START);
    act(&line, EDIT_YANK);
    check(&line, "captain^who is the ");
    act(&line, EDIT_KILL_END);
    check(&line, "captain^");
    act(&line, EDIT_WORD_LEFT);
    act(&line, EDIT_YANK);
    check(&line, "who is the ^captain");
    act(&line, EDIT_WORD_LEFT);
    act(&line, EDIT_KILL_WORD);
    check(&line, "who is ^ captain");
    act(&line, EDIT_KILL_START);
    check(&line, "^ captain");
    act(&line, EDIT_LINE_END);
    act(&line, EDIT_KILL_WORD_BACK);
    check(&line, " ^");
    editline_free(&line);
}

static void undo_goes_back_step_by_step(void **state)
{
    (void)state;
    struct editline line = {0};
    put(&line, "a");
    put(&line, "b");
    act(&line, EDIT_LEFT);
    act(&line, EDIT_KILL_END);
    check(&line, "a^");
    act(&line, EDIT_UNDO);
    check(&line, "a^b");
    act(&line, EDIT_UNDO);
    check(&line, "^");
    act(&line, EDIT_UNDO);
    check(&line, "^");
    for (int i = 0; i < 3 * EDITLINE_UNDO; i++) {
        put(&line, "x");
        act(&line, EDIT_LINE_START);
    }
    for (int i = 0; i < 3 * EDITLINE_UNDO; i++) act(&line, EDIT_UNDO);
    assert_int_equal(line.len, 2 * EDITLINE_UNDO);
    editline_free(&line);
}

static void lines_have_their_own_ends(void **state)
{
    (void)state;
    struct editline line = {0};
    put(&line, "one\ntwo\nthree");
    act(&line, EDIT_LINE_START);
    check(&line, "one\ntwo\n^three");
    assert_true(editline_move_row(&line, -1, 40));
    act(&line, EDIT_LINE_END);
    check(&line, "one\ntwo^\nthree");
    act(&line, EDIT_KILL_END);
    check(&line, "one\ntwo^three");
    assert_true(editline_move_row(&line, -1, 40));
    check(&line, "one^\ntwothree");
    assert_false(editline_move_row(&line, -1, 40));
    assert_true(editline_move_row(&line, 1, 40));
    assert_false(editline_move_row(&line, 1, 40));
    check(&line, "one\ntwo^three");
    editline_free(&line);
}

static void rows_follow_the_wrapping(void **state)
{
    (void)state;
    struct editline line = {0};
    put(&line, "aaaa bbbb cccc");
    assert_true(editline_move_row(&line, -1, 5));
    check(&line, "aaaa bbbb^ cccc");
    assert_true(editline_move_row(&line, -1, 5));
    check(&line, "aaaa^ bbbb cccc");
    editline_free(&line);
}

static void transposing_swaps_graphemes(void **state)
{
    (void)state;
    struct editline line = {0};
    put(&line, "abc");
    act(&line, EDIT_TRANSPOSE);
    check(&line, "acb^");
    act(&line, EDIT_LINE_START);
    act(&line, EDIT_TRANSPOSE);
    check(&line, "^acb");
    act(&line, EDIT_RIGHT);
    act(&line, EDIT_TRANSPOSE);
    check(&line, "ca^b");
    editline_free(&line);
}

static void pastes_are_made_safe(void **state)
{
    (void)state;
    struct editline line = {0};
    put(&line, "a\x1b]52;c;x\x07\tb\xff\n");
    check(&line, "a\xe2\x90\x9b]52;c;x\xe2\x90\x87\tb\xef\xbf\xbd\n^");
    struct error error = {0};
    char *huge = calloc(1, EDITLINE_MOST + 1);
    assert_non_null(huge);
    memset(huge, 'x', EDITLINE_MOST);
    assert_int_equal(editline_insert(&line, huge, EDITLINE_MOST, &error), ERROR_INPUT);
    assert_true(error.text[0]);
    free(huge);
    editline_free(&line);
}

static void completion_replaces_the_word(void **state)
{
    (void)state;
    struct editline line = {0};
    put(&line, "/add mob");
    assert_int_equal(editline_replace(&line, 5, "moby.txt", 8, NULL), 0);
    check(&line, "/add moby.txt^");
    act(&line, EDIT_UNDO);
    check(&line, "/add mob^");
    editline_free(&line);
}

static void history_comes_back_from_disk(void **state)
{
    (void)state;
    char dir[] = "/tmp/lectern-history-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/history", dir);
    struct history history;
    assert_int_equal(history_open(&history, dir, NULL), 0);
    assert_int_equal(history_add(&history, "who?", NULL), 0);
    assert_int_equal(history_add(&history, "who?", NULL), 0);
    assert_int_equal(history_add(&history, "two\nlines \\n \\", NULL), 0);
    assert_int_equal(history.count, 2);
    history_free(&history);

    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(history_open(&history, dir, NULL), 0);
    assert_int_equal(history.count, 2);
    assert_string_equal(history.items[1], "two\nlines \\n \\");
    assert_int_equal(history_search(&history, SIZE_MAX, "WHO"), 0);
    assert_true(history_search(&history, 0, "who") == SIZE_MAX);
    history_free(&history);
    unlink(path);
    rmdir(dir);
}

static void a_long_history_is_cut_back(void **state)
{
    (void)state;
    char dir[] = "/tmp/lectern-history-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/history", dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < 2 * HISTORY_MOST; i++) fprintf(file, "question %d\n", i);
    fclose(file);
    for (int round = 0; round < 2; round++) {
        struct history history;
        assert_int_equal(history_open(&history, dir, NULL), 0);
        assert_int_equal(history.count, HISTORY_MOST);
        assert_string_equal(history.items[0], "question 1000");
        history_free(&history);
    }
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, HISTORY_MOST * (int)sizeof "question 1000");
    unlink(path);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    if (!setlocale(LC_CTYPE, "C.UTF-8")) {
        puts("skipped: there is no C.UTF-8 locale here");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(typing_moves_and_deletes_by_grapheme),
        cmocka_unit_test(words_are_killed_and_yanked),
        cmocka_unit_test(undo_goes_back_step_by_step),
        cmocka_unit_test(lines_have_their_own_ends),
        cmocka_unit_test(rows_follow_the_wrapping),
        cmocka_unit_test(transposing_swaps_graphemes),
        cmocka_unit_test(pastes_are_made_safe),
        cmocka_unit_test(completion_replaces_the_word),
        cmocka_unit_test(history_comes_back_from_disk),
        cmocka_unit_test(a_long_history_is_cut_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
