/* What a power cut leaves, for a test: preloaded into the server, it notes what each fsync makes durable.
 *
 * When a regular file below POWER_CUT_ROOT is synced, its content is copied to POWER_CUT_KEPT/<key>. When a directory is
 * synced, its entries are written to POWER_CUT_KEPT/<key>, a line each: type, key, name. What was not synced is in
 * neither: after a SIGKILL the test builds from them the worst that a power cut may leave. A key is an inode with its
 * time of birth, so that a number that is given again is told apart. Writes need not be watched: what they leave in the
 * page cache counts for nothing.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void give_up(const char *what) {
    perror(what);
    abort();
}

static int key_of(int directory, const char *name, int flags, char key[64], mode_t *mode) {
    struct statx found;
    if (statx(directory, name, flags | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &found) != 0) return -1;
    snprintf(key, 64, "%llu.%lld.%u", (unsigned long long)found.stx_ino, (long long)found.stx_btime.tv_sec,
             found.stx_btime.tv_nsec);
    *mode = found.stx_mode;
    return 0;
}

static void keep_file(const char *path, FILE *out) {
    int from = open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0) give_up(path);
    char buffer[65536];
    ssize_t count;
    while ((count = read(from, buffer, sizeof buffer)) > 0)
        if (fwrite(buffer, 1, (size_t)count, out) != (size_t)count) give_up("the copy");
    if (count < 0) give_up(path);
    close(from);
}

static void keep_directory(const char *path, FILE *out) {
    DIR *directory = opendir(path);
    if (directory == NULL) give_up(path);
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        char key[64];
        mode_t mode;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        /* It may have been removed since. */
        if (key_of(dirfd(directory), entry->d_name, 0, key, &mode) != 0) continue;
        fprintf(out, "%c %s %s\n", S_ISDIR(mode) ? 'd' : 'f', key, entry->d_name);
    }
    closedir(directory);
}

static void keep(int fd) {
    const char *root = getenv("POWER_CUT_ROOT"), *kept = getenv("POWER_CUT_KEPT");
    char link[64], path[PATH_MAX], key[64], making[PATH_MAX], made[PATH_MAX];
    mode_t mode;
    if (root == NULL || kept == NULL) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return;
    path[length] = 0;
    size_t prefix = strlen(root);
    if (strncmp(path, root, prefix) != 0 || (path[prefix] != 0 && path[prefix] != '/')) return;
    if (key_of(fd, "", AT_EMPTY_PATH, key, &mode) != 0) give_up("statx");
    snprintf(making, sizeof making, "%s/making.%d.%s", kept, gettid(), key);
    snprintf(made, sizeof made, "%s/%s", kept, path[prefix] == 0 ? "root" : key);
    FILE *out = fopen(making, "w");
    if (out == NULL) give_up(making);
    if (S_ISDIR(mode)) keep_directory(path, out);
    else keep_file(link, out);
    if (fclose(out) != 0 || rename(making, made) != 0) give_up(made);
}

int fsync(int fd) {
    static int (*real)(int);
    if (real == NULL) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    int done = real(fd);
    if (done == 0) keep(fd);
    return done;
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (real == NULL) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    int done = real(fd);
    if (done == 0) keep(fd);
    return done;
}
