/* A disk and a clock that misbehave on command, between a process and its C library (LD_PRELOAD).

   SCANWARDEN_TEST_DISK names a file with one line: CALLS ERRNO PART SECONDS. A call whose letter stands in CALLS fails
   with ERRNO when the path that it is about contains PART: w write, s fsync, o open for writing, r rename. The wall clock
   is SECONDS off. Without the file, or without the line, nothing happens. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static __thread int inside;

struct order { char calls[16]; int error; char part[256]; long seconds; };

#define NEXT(name, type) ((type)dlsym(RTLD_NEXT, name))

static int (*real_open)(const char *, int, ...);
static ssize_t (*real_read)(int, void *, size_t);

static int ordered(struct order *order) {
    const char *name = getenv("SCANWARDEN_TEST_DISK");
    char line[512];
    if (!name || inside) return 0;
    inside = 1;
    if (!real_open) real_open = NEXT("open", int (*)(const char *, int, ...));
    if (!real_read) real_read = NEXT("read", ssize_t (*)(int, void *, size_t));
    int saved = errno, found = 0, handle = real_open(name, O_RDONLY | O_CLOEXEC);
    if (handle >= 0) {
        ssize_t length = real_read(handle, line, sizeof line - 1);
        close(handle);
        if (length > 0) {
            line[length] = 0;
            found = sscanf(line, "%15s %d %255s %ld", order->calls, &order->error, order->part, &order->seconds) == 4;
        }
    }
    errno = saved;
    inside = 0;
    return found;
}

static int fails(char call, const char *path) {
    struct order order;
    if (!ordered(&order) || !strchr(order.calls, call) || !path || !strstr(path, order.part)) return 0;
    errno = order.error;
    return 1;
}

static int fails_handle(char call, int handle) {
    struct order order;
    char link[64], path[4096];
    if (!ordered(&order) || !strchr(order.calls, call)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (!strstr(path, order.part)) return 0;
    errno = order.error;
    return 1;
}

#define FAILING(result, name, call, handle, parameters, arguments) \
    result name parameters { \
        static result(*real) parameters; \
        if (!real) real = NEXT(#name, result(*) parameters); \
        if (fails_handle(call, handle)) return -1; \
        return real arguments; \
    }

FAILING(ssize_t, write, 'w', handle, (int handle, const void *from, size_t count), (handle, from, count))
FAILING(ssize_t, writev, 'w', handle, (int handle, const struct iovec *from, int count), (handle, from, count))
FAILING(ssize_t, pwrite, 'w', handle, (int handle, const void *from, size_t count, off_t at), (handle, from, count, at))
FAILING(ssize_t, pwrite64, 'w', handle, (int handle, const void *from, size_t count, off64_t at), (handle, from, count, at))
FAILING(int, fsync, 's', handle, (int handle), (handle))
FAILING(int, fdatasync, 's', handle, (int handle), (handle))

#define OPENING(name) \
    int name(const char *path, int flags, ...) { \
        static int (*real)(const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        int mode = va_arg(rest, int); \
        va_end(rest); \
        if (!real) real = NEXT(#name, int (*)(const char *, int, ...)); \
        if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) && fails('o', path)) return -1; \
        return real(path, flags, mode); \
    }

OPENING(open)
OPENING(open64)

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (!real) real = NEXT("rename", int (*)(const char *, const char *));
    return fails('r', to) ? -1 : real(from, to);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    struct order order;
    if (!real) real = NEXT("clock_gettime", int (*)(clockid_t, struct timespec *));
    int result = real(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME && ordered(&order)) now->tv_sec += order.seconds;
    return result;
}
