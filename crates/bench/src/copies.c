/* Loaded before libc into the process that carries packets: counts copied bytes in a file that the benchmark reads.
 * Copies of less than 256 bytes, such as headers, are not counted. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define SMALLEST 256

static volatile uint64_t unused[2];
/* Bytes copied within the process; bytes read and written. */
static volatile uint64_t *counters = unused;

__attribute__((constructor)) static void begin(void) {
    char path[4096];
    const char *directory = getenv("COPIES");
    if (!directory) return;
    snprintf(path, sizeof path, "%s/%d", directory, getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || ftruncate(fd, sizeof unused)) return;
    void *map = mmap(NULL, sizeof unused, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) counters = map;
    close(fd);
}

void *memmove(void *to, const void *from, size_t size) {
    if (size >= SMALLEST) counters[0] += size;
    void *result = to;
    if ((uintptr_t)to - (uintptr_t)from >= size) {
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size)::"memory");
    } else {
        unsigned char *end = (unsigned char *)to + size;
        const unsigned char *source = (const unsigned char *)from + size;
        while (size--) *--end = *--source;
    }
    return result;
}

void *memcpy(void *restrict to, const void *restrict from, size_t size) { return memmove(to, from, size); }

#define COUNT(name, parameters, arguments)                                       \
    ssize_t name parameters {                                                    \
        static ssize_t(*real) parameters;                                        \
        if (!real) real = (ssize_t(*) parameters)dlsym(RTLD_NEXT, #name);        \
        ssize_t done = real arguments;                                           \
        if (done >= SMALLEST) counters[1] += (uint64_t)done;                     \
        return done;                                                             \
    }

COUNT(read, (int fd, void *data, size_t size), (fd, data, size))
COUNT(write, (int fd, const void *data, size_t size), (fd, data, size))
COUNT(readv, (int fd, const struct iovec *data, int count), (fd, data, count))
COUNT(writev, (int fd, const struct iovec *data, int count), (fd, data, count))
COUNT(recv, (int fd, void *data, size_t size, int flags), (fd, data, size, flags))
COUNT(send, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags))
COUNT(recvfrom, (int fd, void *restrict data, size_t size, int flags, struct sockaddr *restrict address, socklen_t *restrict length),
      (fd, data, size, flags, address, length))
COUNT(sendto, (int fd, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length),
      (fd, data, size, flags, address, length))
COUNT(recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))
COUNT(sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
