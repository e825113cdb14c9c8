/* SPDX-License-Identifier: MIT
 *
 * Writing a session out (export.h).
 */
#include "app/export.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/json.h"

static void write_markdown(const struct desk *desk, FILE *file)
{
    fprintf(file, "# %s\n\nDocuments:\n\n", desk->name);
    for (size_t i = 0; i < desk->n_documents; i++) fprintf(file, "- %s\n", desk->documents[i].name);
    for (size_t i = 0; i < desk->n_turns; i++) {
        const struct desk_turn *turn = &desk->turns[i];
        fputs(turn->is_question ? "\n## " : "\n", file);
        fwrite(turn->raw, 1, turn->raw_len, file);
        fputs(turn->stopped ? "\n\n*(stopped)*\n" : "\n", file);
    }
}

static int write_json(const struct desk *desk, FILE *file, struct error *error)
{
    struct json json = {0};
    json_open(&json, NULL, '{');
    json_text(&json, "session", desk->name);
    json_open(&json, "documents", '[');
    for (size_t i = 0; i < desk->n_documents; i++) {
        json_open(&json, NULL, '{');
        json_text(&json, "name", desk->documents[i].name);
        json_text(&json, "path", desk->documents[i].path);
        json_hex(&json, "sha256", desk->documents[i].hash, sizeof desk->documents[i].hash);
        json_close(&json, '}');
    }
    json_close(&json, ']');
    json_open(&json, "turns", '[');
    for (size_t i = 0; i < desk->n_turns; i++) {
        json_open(&json, NULL, '{');
        json_text(&json, "role", desk->turns[i].is_question ? "user" : "assistant");
        json_string(&json, "text", desk->turns[i].raw, desk->turns[i].raw_len);
        json_close(&json, '}');
    }
    json_close(&json, ']');
    json_close(&json, '}');
    const char *text = json_end(&json);
    if (text) fprintf(file, "%s\n", text);
    json_free(&json);
    return text ? 0 : error_set(error, ERROR_FAILED, "Out of memory while exporting.");
}

int export_session(const struct desk *desk, enum export_format format, const char *path, struct error *error)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    if (!file) {
        const int rc = error_set(error, errno == EEXIST ? ERROR_USAGE : ERROR_DISK, "%.300s cannot be written: %s.",
                                 path, strerror(errno));
        if (fd >= 0) close(fd);
        return rc;
    }
    int rc = 0;
    if (format == EXPORT_JSON)
        rc = write_json(desk, file, error);
    else
        write_markdown(desk, file);
    const bool failed = ferror(file) != 0;
    if ((fclose(file) || failed) && !rc)
        rc = error_set(error, ERROR_DISK, "%.300s could not be written to the end: %s.", path, strerror(errno));
    if (rc) unlink(path);
    return rc;
}
