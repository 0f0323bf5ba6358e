/* A wall clock that can be set wrong for one process: loaded before its libraries, it adds what stands in the file named by
 * FAULTS_CLOCK to the time of day, and counts there how often it has. The monotonic clock is left alone.
 *
 * The file: two 64-bit numbers of the machine's own byte order, nanoseconds to add and answers that were wrong. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct wrong {
    _Atomic int64_t nanoseconds;
    _Atomic uint64_t answers;
};

static struct wrong *wrong;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("FAULTS_CLOCK");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *at = mmap(NULL, sizeof *wrong, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (at != MAP_FAILED) wrong = at;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *out) {
    if (!real) begin();
    int result = real(id, out);
    int64_t add = wrong && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) ? atomic_load(&wrong->nanoseconds) : 0;
    if (result == 0 && add != 0) {
        int64_t sum = out->tv_sec * INT64_C(1000000000) + out->tv_nsec + add;
        out->tv_sec = sum / 1000000000;
        out->tv_nsec = sum % 1000000000;
        atomic_fetch_add(&wrong->answers, 1);
    }
    return result;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    (void)zone;
    struct timespec now;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return result;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
