/* Records what a process does to the files below a folder, as power_cut.py reads it. Preloaded; TRACE_BELOW is the
 * folder, TRACE_TO the record. With TRACE_SYNCS=none syncs are not recorded: what a process that never syncs would do.
 * Each operation and its record are one step under a lock, so that the record's order is the order of the effects. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FILES_MAX = 65536, NAME_MAX_BYTES = 4096 };

static char folder[NAME_MAX_BYTES];
static size_t folder_length;
static int record_to = -1;
static int records_syncs = 1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* By descriptor: 0 is none of ours, else the number the record knows the file by. */
static uint32_t file_of[FILES_MAX];
static char is_folder[FILES_MAX];
static uint32_t files;
static uint64_t syncs;

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }
#define REAL(name) static __typeof__(name) *real; if (!real) real = next(#name)

__attribute__((constructor)) static void begin(void) {
    const char *below = getenv("TRACE_BELOW"), *to = getenv("TRACE_TO"), *kind = getenv("TRACE_SYNCS");
    if (!below || !to || !realpath(below, folder)) return;
    folder_length = strlen(folder);
    records_syncs = !kind || strcmp(kind, "none");
    int (*real)(const char *, int, ...) = next("open");
    record_to = real(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void add(char kind, uint32_t file, uint64_t number, const void *data, uint32_t length) {
    struct __attribute__((packed)) { char kind; uint32_t file; uint64_t number; uint32_t length; } head =
        {kind, file, number, length};
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)data, length}};
    if (writev(record_to, parts, 2) != (ssize_t)(sizeof head + length)) abort();
}

/* The name within the folder, or NULL for what lies elsewhere, and for the WAL's index, which no power cut spares. */
static const char *within(const char *path) {
    size_t length = strlen(path);
    if (record_to < 0 || strncmp(path, folder, folder_length)) return NULL;
    if (path[folder_length] == 0) return path + folder_length;
    if (path[folder_length] != '/') return NULL;
    if (length > 4 && !strcmp(path + length - 4, "-shm")) return NULL;
    return path + folder_length + 1;
}

static const char *name_at(int at, const char *path, char *space) {
    if (path[0] == '/') snprintf(space, NAME_MAX_BYTES, "%s", path);
    else if (at == AT_FDCWD) { if (!getcwd(space, NAME_MAX_BYTES)) return NULL;
        size_t used = strlen(space); snprintf(space + used, NAME_MAX_BYTES - used, "/%s", path); }
    else { char link[64]; snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t used = readlink(link, space, NAME_MAX_BYTES - 1); if (used < 0) return NULL;
        snprintf(space + used, NAME_MAX_BYTES - used, "/%s", path); }
    return within(space);
}

static int opened(int fd, int flags) {
    if (fd < 0 || fd >= FILES_MAX || record_to < 0) return fd;
    char link[64], path[NAME_MAX_BYTES];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return fd;
    path[length] = 0;
    const char *name = within(path);
    pthread_mutex_lock(&lock);
    file_of[fd] = 0;
    struct stat about;
    if (name && !fstat(fd, &about)) {
        file_of[fd] = ++files;
        is_folder[fd] = S_ISDIR(about.st_mode);
        if (!is_folder[fd]) {
            add('O', files, 0, name, strlen(name));
            if (flags & O_TRUNC) add('T', files, 0, NULL, 0);
        }
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN(name, takes, gives) \
    int name takes { \
        int mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, int); va_end(more); } \
        REAL(name); \
        return opened(real gives, flags); \
    }
OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode))
OPEN(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode))

static uint32_t traced(int fd) { return record_to >= 0 && fd >= 0 && fd < FILES_MAX ? file_of[fd] : 0; }

int close(int fd) {
    REAL(close);
    if (traced(fd)) { pthread_mutex_lock(&lock); file_of[fd] = 0; pthread_mutex_unlock(&lock); }
    return real(fd);
}

#define WRITE(name, takes, gives, place) \
    ssize_t name takes { \
        REAL(name); \
        uint32_t file = traced(fd); \
        if (!file) return real gives; \
        pthread_mutex_lock(&lock); \
        off_t at = place; \
        ssize_t done = real gives; \
        if (done > 0) add('W', file, at, data, done); \
        pthread_mutex_unlock(&lock); \
        return done; \
    }

static off_t position(int fd) {
    return fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
}
WRITE(write, (int fd, const void *data, size_t size), (fd, data, size), position(fd))
WRITE(pwrite, (int fd, const void *data, size_t size, off_t offset), (fd, data, size, offset), offset)
WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t offset), (fd, data, size, offset), offset)

#define TRUNCATE(name, type) \
    int name(int fd, type size) { \
        REAL(name); \
        uint32_t file = traced(fd); \
        if (!file) return real(fd, size); \
        pthread_mutex_lock(&lock); \
        int failed = real(fd, size); \
        if (!failed) add('T', file, size, NULL, 0); \
        pthread_mutex_unlock(&lock); \
        return failed; \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

/* What was written before a sync began is durable when it has ended; what was written meanwhile may not be. */
#define SYNC(name) \
    int name(int fd) { \
        REAL(name); \
        uint32_t file = records_syncs ? traced(fd) : 0; \
        if (!file) return real(fd); \
        char link[64], path[NAME_MAX_BYTES]; \
        pthread_mutex_lock(&lock); \
        uint64_t number = ++syncs; \
        if (!is_folder[fd]) add('B', file, number, NULL, 0); \
        pthread_mutex_unlock(&lock); \
        int failed = real(fd); \
        if (failed) return failed; \
        pthread_mutex_lock(&lock); \
        if (!is_folder[fd]) add('E', file, number, NULL, 0); \
        else { \
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd); \
            ssize_t length = readlink(link, path, sizeof path - 1); \
            if (length >= 0) { path[length] = 0; const char *known = within(path); \
                if (known) add('Y', 0, 0, known, strlen(known)); } \
        } \
        pthread_mutex_unlock(&lock); \
        return 0; \
    }
SYNC(fsync)
SYNC(fdatasync)

#define NAMED(kind, call, known) \
    pthread_mutex_lock(&lock); \
    int failed = call; \
    if (!failed && known) add(kind, 0, 0, known, strlen(known)); \
    pthread_mutex_unlock(&lock); \
    return failed;

int unlink(const char *path) {
    REAL(unlink);
    char space[NAME_MAX_BYTES];
    const char *name = name_at(AT_FDCWD, path, space);
    NAMED('D', real(path), name)
}
int rmdir(const char *path) {
    REAL(rmdir);
    char space[NAME_MAX_BYTES];
    const char *name = name_at(AT_FDCWD, path, space);
    NAMED('D', real(path), name)
}
int unlinkat(int at, const char *path, int flags) {
    REAL(unlinkat);
    char space[NAME_MAX_BYTES];
    const char *name = name_at(at, path, space);
    NAMED('D', real(at, path, flags), name)
}
int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    char space[NAME_MAX_BYTES];
    const char *name = name_at(AT_FDCWD, path, space);
    NAMED('M', real(path, mode), name)
}
int mkdirat(int at, const char *path, mode_t mode) {
    REAL(mkdirat);
    char space[NAME_MAX_BYTES];
    const char *name = name_at(at, path, space);
    NAMED('M', real(at, path, mode), name)
}

static int renamed(int failed, const char *from, const char *to) {
    if (!failed && from && to) {
        char both[2 * NAME_MAX_BYTES];
        size_t first = strlen(from) + 1, length = first + strlen(to);
        memcpy(both, from, first);
        memcpy(both + first, to, length - first);
        add('R', 0, 0, both, length);
    }
    return failed;
}
int rename(const char *from, const char *to) {
    REAL(rename);
    char one[NAME_MAX_BYTES], other[NAME_MAX_BYTES];
    const char *old = name_at(AT_FDCWD, from, one), *name = name_at(AT_FDCWD, to, other);
    pthread_mutex_lock(&lock);
    int failed = renamed(real(from, to), old, name);
    pthread_mutex_unlock(&lock);
    return failed;
}
int renameat(int from_at, const char *from, int to_at, const char *to) {
    REAL(renameat);
    char one[NAME_MAX_BYTES], other[NAME_MAX_BYTES];
    const char *old = name_at(from_at, from, one), *name = name_at(to_at, to, other);
    pthread_mutex_lock(&lock);
    int failed = renamed(real(from_at, from, to_at, to), old, name);
    pthread_mutex_unlock(&lock);
    return failed;
}
