/* Loaded before the C library (LD_PRELOAD), makes every flush take SLOWSYNC_US microseconds longer, 5000 unless told: a model
 * of a device that really writes. Flushes of different threads and programs wait beside each other, not one after the other.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int slow(const char *name, int file) {
    const char *wait = getenv("SLOWSYNC_US");
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = real(file);
    usleep(wait != NULL ? (useconds_t)atoi(wait) : 5000);
    return result;
}

int fsync(int file) { return slow("fsync", file); }

int fdatasync(int file) { return slow("fdatasync", file); }
