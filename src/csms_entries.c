/* SPDX-License-Identifier: MIT */
#include "csms_entries.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "csms_fd.h"
#include "csms_path.h"

#define MAX_NAMES (1024u * 1024 * 1024) /* of a directory's names together */

/* Appends the type's letter, the name and a NUL. Some file systems leave the
 * type to fstatat(2), and an entry may be gone by then. */
static int add_entry(int fd, const struct dirent *entry, struct csms_buf *text)
{
    mode_t mode = (mode_t)DTTOIF(entry->d_type);
    struct stat status;

    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
        return 0;
    if (entry->d_type == DT_UNKNOWN) {
        if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0)
            return errno == ENOENT ? 0 : -1;
        mode = status.st_mode;
    }
    csms_buf_char(text, (char)csms_file_type_of(mode));
    csms_buf_append(text, entry->d_name, strlen(entry->d_name) + 1);
    if (text->failure) {
        errno = ENOMEM;
        return -1;
    }
    return 0;
}

/* Takes `fd` over. */
static int read_names(int fd, struct csms_buf *text)
{
    DIR *stream = fdopendir(fd);
    const struct dirent *entry = NULL;
    int number = 0;

    if (!stream) {
        csms_fd_drop(fd);
        return -1;
    }
    do {
        errno = 0;
        entry = readdir(stream);
        if (!entry || add_entry(fd, entry, text))
            number = errno;
    } while (entry && number == 0);
    (void)closedir(stream);
    errno = number;
    return number == 0 ? 0 : -1;
}

static int by_name(const void *left, const void *right)
{
    return strcmp(((const struct csms_entry *)left)->name,
                  ((const struct csms_entry *)right)->name);
}

/* Once the text no longer moves. */
static int index_names(struct csms_entries *entries)
{
    struct csms_span text = csms_buf_view(&entries->text);
    size_t count = 0;

    for (size_t i = 0; i < text.len; i++)
        count += text.data[i] == '\0';
    entries->items = calloc(count + 1, sizeof *entries->items);
    if (!entries->items)
        return -1;
    for (; entries->count < count; entries->count++) {
        struct csms_entry *item = &entries->items[entries->count];

        item->type = (enum csms_file_type)text.data[0];
        item->name = text.data + 1;
        text.data += strlen(text.data) + 1;
    }
    qsort(entries->items, count, sizeof *entries->items, by_name);
    return 0;
}

static int list(const struct csms_place *place, struct csms_entries *out)
{
    int fd = csms_fd_open_directory(place->at, place->name, O_NOFOLLOW);

    return fd < 0 || read_names(fd, &out->text) ? -1 : index_names(out);
}

int csms_entries_list(const struct csms_dir *dir, const char *path,
                      struct csms_entries *out, struct csms_err *err)
{
    struct csms_place place = csms_place_root(dir, "list");

    memset(out, 0, sizeof *out);
    csms_buf_init(&out->text, MAX_NAMES);
    if (path && csms_place_open(&place, dir, "list", path, false, err))
        return -1;
    return csms_place_end(&place, list(&place, out), err);
}

void csms_entries_free(struct csms_entries *entries)
{
    csms_buf_free(&entries->text);
    free(entries->items);
    entries->items = NULL;
    entries->count = 0;
}
