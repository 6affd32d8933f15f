/* Preloaded into every process of a cluster: makes chosen files fail, hang or kill their reader.
 *
 * FAULTS_RULES names a folder. When a file whose path holds "/clips" is opened for reading, the rule is the content of
 * the file of its name in that folder:
 *   eio N    the first N opens fail with EIO            eio -1   every one
 *   hang     the open never returns                     lock     the same with Python's interpreter locked
 *   crash    SIGSEGV
 * A file "rename-only" there makes link(), and open() with O_EXCL outside of /tmp/ray's and Python's own folders, fail
 * below paths that hold "/trial-". A file "full" there makes write() to such files fail with ENOSPC.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int real_open(const char *path, int flags, mode_t mode) {
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static int rule_exists(const char *name) {
    const char *folder = getenv("FAULTS_RULES");
    char path[4096];
    if (!folder) return 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
}

/* How often this was called for a file before, over all processes: the size of a file that grows by a byte a call. */
static long times_before(const char *rule_path) {
    char path[4200];
    snprintf(path, sizeof path, "%s.count", rule_path);
    int fd = real_open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd < 0) return 0;
    syscall(SYS_write, fd, "x", 1L);
    long size = lseek(fd, 0, SEEK_CUR);
    close(fd);
    return size - 1;
}

static void lock_interpreter(void) {
    int (*ensure)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "PyGILState_Ensure");
    if (ensure) ensure();
}

/* 0, or the errno that the open must fail with. Does not return for those that hang or crash. */
static int judge(const char *path, int flags) {
    const char *folder = getenv("FAULTS_RULES");
    if (!folder || !path) return 0;
    if ((flags & O_EXCL) && strstr(path, "/trial-") && rule_exists("rename-only")) return EOPNOTSUPP;
    if (!strstr(path, "/clips") || (flags & O_ACCMODE) != O_RDONLY) return 0;
    const char *name = strrchr(path, '/');
    char rule_path[4096], rule[64] = "";
    snprintf(rule_path, sizeof rule_path, "%s%s", folder, name);
    int fd = real_open(rule_path, O_RDONLY, 0);
    if (fd < 0) return 0;
    syscall(SYS_read, fd, rule, sizeof rule - 1);
    close(fd);
    long before = times_before(rule_path), limit;
    if (sscanf(rule, "eio %ld", &limit) == 1) return limit < 0 || before < limit ? EIO : 0;
    if (!strncmp(rule, "crash", 5)) raise(SIGSEGV);
    if (!strncmp(rule, "lock", 4)) lock_interpreter();
    if (!strncmp(rule, "lock", 4) || !strncmp(rule, "hang", 4)) for (;;) sleep(1000);
    return 0;
}

static int checked_open(const char *path, int flags, mode_t mode) {
    int fault = judge(path, flags);
    if (fault) { errno = fault; return -1; }
    return real_open(path, flags, mode);
}

static mode_t mode_of(int flags, va_list more) {
    return flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(more, int) : 0;
}

int open(const char *path, int flags, ...) {
    va_list more; va_start(more, flags); mode_t mode = mode_of(flags, more); va_end(more);
    return checked_open(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list more; va_start(more, flags); mode_t mode = mode_of(flags, more); va_end(more);
    return checked_open(path, flags, mode);
}

FILE *fopen64(const char *path, const char *mode) {
    FILE *(*real)(const char *, const char *) = (FILE *(*)(const char *, const char *))dlsym(RTLD_NEXT, "fopen64");
    int fault = judge(path, mode[0] == 'r' ? O_RDONLY : O_WRONLY);
    if (fault) { errno = fault; return NULL; }
    return real(path, mode);
}

FILE *fopen(const char *path, const char *mode) { return fopen64(path, mode); }

int link(const char *from, const char *to) {
    if (strstr(to, "/trial-") && rule_exists("rename-only")) { errno = EPERM; return -1; }
    return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

static int disk_full(int fd) {
    char link_path[64], path[4096];
    if (!rule_exists("full")) return 0;
    snprintf(link_path, sizeof link_path, "/proc/self/fd/%d", fd);
    long size = readlink(link_path, path, sizeof path - 1);
    if (size <= 0) return 0;
    path[size] = 0;
    return strstr(path, "/trial-") != NULL && strstr(path, ".log") == NULL;
}

ssize_t write(int fd, const void *data, size_t size) {
    if (getenv("FAULTS_RULES") && disk_full(fd)) { errno = ENOSPC; return -1; }
    return syscall(SYS_write, fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (getenv("FAULTS_RULES") && disk_full(fd)) { errno = ENOSPC; return -1; }
    return syscall(SYS_writev, fd, parts, count);
}
