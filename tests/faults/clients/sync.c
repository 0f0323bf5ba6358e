/* A disk that cannot sync: loaded before a process's libraries, it lets every fsync and fdatasync of files below the
 * directory FAULTS_DATA fail with EIO, without syncing anything, while the file named by FAULTS_SYNC says so, and counts there
 * how often it has.
 *
 * The file: two 64-bit numbers of the machine's own byte order, whether to fail and how often it was done. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct failing {
    _Atomic int64_t on;
    _Atomic uint64_t times;
};

static struct failing *failing;
static const char *below;
static int (*real_fsync)(int), (*real_fdatasync)(int);

__attribute__((constructor)) static void begin(void) {
    real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    below = getenv("FAULTS_DATA");
    const char *path = getenv("FAULTS_SYNC");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *at = mmap(NULL, sizeof *failing, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (at != MAP_FAILED) failing = at;
    close(file);
}

static int fails(int file) {
    if (!failing || !below || !atomic_load(&failing->on)) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strncmp(path, below, strlen(below)) != 0) return 0;
    atomic_fetch_add(&failing->times, 1);
    return 1;
}

int fsync(int file) {
    if (!real_fsync) begin();
    if (fails(file)) {
        errno = EIO;
        return -1;
    }
    return real_fsync(file);
}

int fdatasync(int file) {
    if (!real_fdatasync) begin();
    if (fails(file)) {
        errno = EIO;
        return -1;
    }
    return real_fdatasync(file);
}
