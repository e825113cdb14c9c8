/* SPDX-License-Identifier: MIT
 *
 * The key table: no key means two things in one place, and every row can be named in the help.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ncurses.h>
#include <string.h>

#include "app/keys.h"

static void no_key_has_two_meanings(void **state)
{
    (void)state;
    size_t count;
    const struct key_row *rows = keys_table(&count);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < KEYS_PER_ROW && rows[i].keys[k]; k++)
            assert_int_equal(keys_find(rows[i].map, rows[i].keys[k]), rows[i].action);
}

static void every_row_can_be_told(void **state)
{
    (void)state;
    size_t count;
    const struct key_row *rows = keys_table(&count);
    for (size_t i = 0; i < count; i++) {
        char name[24];
        assert_int_not_equal(rows[i].keys[0], 0);
        assert_true(strlen(rows[i].help) > 2);
        for (size_t k = 0; k < KEYS_PER_ROW && rows[i].keys[k]; k++) {
            keys_name(rows[i].keys[k], name);
            assert_true(name[0] && (strcmp(name, "?") || rows[i].keys[k] == '?'));
        }
    }
}

static void a_view_comes_before_everywhere(void **state)
{
    (void)state;
    char name[24];
    assert_int_equal(keys_find(KEYMAP_CHAT, '\t'), ACTION_COMPLETE);
    assert_int_equal(keys_find(KEYMAP_READER, '\t'), ACTION_NEXT_PANE);
    assert_int_equal(keys_find(KEYMAP_READER, KEY_CTRL('C')), ACTION_INTERRUPT);
    assert_int_equal(keys_find(KEYMAP_CHAT, 'x'), ACTION_NONE);
    assert_string_equal(keys_name(KEY_ALT('\r'), name), "Alt-Enter");
    assert_string_equal(keys_name(KEY_CTRL('G'), name), "Ctrl-G");
    assert_string_equal(keys_name(KEY_FN(KEY_F(10)), name), "F10");
    assert_string_equal(keys_name_of(KEYMAP_ANY, ACTION_HELP, name), "F1");
    assert_string_equal(keys_name_of(KEYMAP_PAGER, ACTION_QUIT, name), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_key_has_two_meanings),
        cmocka_unit_test(every_row_can_be_told),
        cmocka_unit_test(a_view_comes_before_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
