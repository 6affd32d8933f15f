/* Preloaded into a command: ends one of its processes by SIGKILL right before the n-th call that changes a folder.
 *
 * Counted are calls that make, cut, rename, link, sync or remove something at or below STOP_BELOW, of all processes of
 * the command together. Each adds a line of LINE bytes to STOP_LOG, so that file's size is the count. STOP_AT names the
 * call that is not made any more; 0 or unset: none. With STOP_WRITES write() and writev() count as well, and the one
 * that is stopped writes the first half of its bytes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define LINE 200
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int real_open(const char *path, int flags, mode_t mode) {
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static void path_of_fd(int fd, char *path) {
    char link_path[64];
    snprintf(link_path, sizeof link_path, "/proc/self/fd/%d", fd);
    long size = syscall(SYS_readlinkat, AT_FDCWD, link_path, path, (long)PATH_MAX - 1);
    path[size > 0 ? size : 0] = 0;
}

static int is_below(const char *path) {
    const char *below = getenv("STOP_BELOW");
    size_t size = below ? strlen(below) : 0;
    return size && !strncmp(path, below, size) && (path[size] == '/' || path[size] == 0);
}

/* Whether this call is the one that is not made. */
static int counts_to_the_end(const char *call, const char *path) {
    const char *log = getenv("STOP_LOG"), *at = getenv("STOP_AT");
    char line[LINE + 1];
    if (!log || !is_below(path)) return 0;
    int fd = real_open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return 0;
    snprintf(line, sizeof line, "%-10.10s %.*s", call, LINE - 12, path + strlen(getenv("STOP_BELOW")));
    size_t used = strlen(line);
    memset(line + used, ' ', LINE - used);
    line[LINE - 1] = '\n';
    syscall(SYS_write, fd, line, (long)LINE);
    long number = syscall(SYS_lseek, fd, 0L, SEEK_CUR) / LINE;
    syscall(SYS_close, fd);
    return at && atol(at) == number;
}

static void end(void) { syscall(SYS_kill, getpid(), SIGKILL); for (;;) pause(); }

static void note(const char *call, int folder, const char *name) {
    char path[2 * PATH_MAX + 2], base[PATH_MAX];
    if (!name || !getenv("STOP_LOG")) return;
    if (name[0] == '/') snprintf(path, sizeof path, "%s", name);
    else {
        if (folder == AT_FDCWD) { if (!getcwd(base, sizeof base)) return; }
        else path_of_fd(folder, base);
        snprintf(path, sizeof path, "%s/%s", base, name);
    }
    if (counts_to_the_end(call, path)) end();
}

static void note_fd(const char *call, int fd) {
    char path[PATH_MAX];
    if (!getenv("STOP_LOG")) return;
    path_of_fd(fd, path);
    if (counts_to_the_end(call, path)) end();
}

#define OPEN(name)                                                                            \
    int name(const char *path, int flags, ...) {                                              \
        va_list more; va_start(more, flags);                                                  \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(more, int) : 0;          \
        va_end(more);                                                                         \
        if (flags & (O_CREAT | O_TRUNC)) note("open", AT_FDCWD, path);                        \
        return real_open(path, flags, mode);                                                  \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                          \
    int name(int folder, const char *path, int flags, ...) {                                  \
        va_list more; va_start(more, flags);                                                  \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(more, int) : 0;          \
        va_end(more);                                                                         \
        if (flags & (O_CREAT | O_TRUNC)) note("open", folder, path);                          \
        return (int)syscall(SYS_openat, folder, path, flags, mode);                           \
    }
OPENAT(openat)
OPENAT(openat64)

FILE *fopen(const char *path, const char *mode) {
    if (mode[0] != 'r') note("fopen", AT_FDCWD, path);
    return REAL(fopen)(path, mode);
}
FILE *fopen64(const char *path, const char *mode) {
    if (mode[0] != 'r') note("fopen", AT_FDCWD, path);
    return REAL(fopen64)(path, mode);
}

int rename(const char *from, const char *to) { note("rename", AT_FDCWD, to); return REAL(rename)(from, to); }
int renameat(int a, const char *from, int b, const char *to) { note("rename", b, to); return REAL(renameat)(a, from, b, to); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    note("rename", b, to);
    return (int)syscall(SYS_renameat2, a, from, b, to, flags);
}
int link(const char *from, const char *to) { note("link", AT_FDCWD, to); return REAL(link)(from, to); }
int linkat(int a, const char *from, int b, const char *to, int flags) { note("link", b, to); return REAL(linkat)(a, from, b, to, flags); }
int symlink(const char *from, const char *to) { note("symlink", AT_FDCWD, to); return REAL(symlink)(from, to); }
int unlink(const char *path) { note("unlink", AT_FDCWD, path); return REAL(unlink)(path); }
int unlinkat(int folder, const char *path, int flags) { note("unlink", folder, path); return REAL(unlinkat)(folder, path, flags); }
int remove(const char *path) { note("unlink", AT_FDCWD, path); return REAL(remove)(path); }
int rmdir(const char *path) { note("rmdir", AT_FDCWD, path); return REAL(rmdir)(path); }
int mkdir(const char *path, mode_t mode) { note("mkdir", AT_FDCWD, path); return REAL(mkdir)(path, mode); }
int mkdirat(int folder, const char *path, mode_t mode) { note("mkdir", folder, path); return REAL(mkdirat)(folder, path, mode); }
int fsync(int fd) { note_fd("fsync", fd); return REAL(fsync)(fd); }
int fdatasync(int fd) { note_fd("fsync", fd); return REAL(fdatasync)(fd); }
int truncate(const char *path, off_t size) { note("truncate", AT_FDCWD, path); return REAL(truncate)(path, size); }
int truncate64(const char *path, off64_t size) { note("truncate", AT_FDCWD, path); return REAL(truncate64)(path, size); }
int ftruncate(int fd, off_t size) { note_fd("truncate", fd); return REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { note_fd("truncate", fd); return REAL(ftruncate64)(fd, size); }

static int last_write(int fd) {
    char path[PATH_MAX];
    if (!getenv("STOP_WRITES") || !getenv("STOP_LOG")) return 0;
    path_of_fd(fd, path);
    return counts_to_the_end("write", path);
}

ssize_t write(int fd, const void *data, size_t size) {
    if (last_write(fd)) { syscall(SYS_write, fd, data, (long)(size / 2)); end(); }
    return syscall(SYS_write, fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (last_write(fd)) { if (count) syscall(SYS_write, fd, parts[0].iov_base, (long)(parts[0].iov_len / 2)); end(); }
    return syscall(SYS_writev, fd, parts, count);
}
