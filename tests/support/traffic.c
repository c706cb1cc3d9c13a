/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * traffic - what a guest does while it is saved and restored: a connection and files, byte by byte checked
 *
 *   traffic echo ADDRESS PORT STOP   sends blocks to a server that returns them (tests/e2e/net-peer serve), on one
 *                                    connection, until the file STOP is there
 *   traffic files FOLDER STOP        writes files, renames them, reads them, and notes each in FOLDER/log, which
 *                                    stays open, until the file STOP is there
 *   traffic check FOLDER             compares what `files` left there with its log
 *   traffic disk DEVICE              writes a block to the disk and to memory, reads the oldest of both again, and
 *                                    prints "count N.", for ever
 *   traffic disk FILE FROM TO        is that disk as it was after one of these rounds?
 *   traffic tick MS MIB PAGES        fills MIB of memory, then writes to PAGES pages of it and prints a line every
 *                                    MS milliseconds, for ever (tests/bench/lifecycle)
 *
 * Every block and file has contents of its own, made from its number. The exit status is 0 only if all was right;
 * the last line says how much it was. A small program, so that it starts quickly in an emulated guest.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define BLOCK     16384u
#define AHEAD     4u  /* blocks on their way */
#define PAUSE_MS  40  /* between two */
#define FILES     16u /* names in use */
#define FILE_MOST 8192u
#define PLACES    64u /* on the disk */
#define PLACE     4096u

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
    va_list arguments;

    printf("traffic: ");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    exit(1);
}

/* xorshift64*: no two numbers have the same contents. */
static void fill(uint8_t *data, size_t size, uint64_t number)
{
    uint64_t x = number * 0x9e3779b97f4a7c15u + 1;

    for (size_t at = 0; at < size; at += 8) {
        uint64_t word;

        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        word = x * 0x2545f4914f6cdd1du;
        memcpy(data + at, &word, size - at < 8 ? size - at : 8);
    }
}

static void rest(void)
{
    nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
}

static bool is_over(const char *stop)
{
    return !access(stop, F_OK);
}

/* ---- the connection ---- */

static int connect_to(const char *address, const char *port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (!inet_aton(address, &to.sin_addr) || connect(fd, (struct sockaddr *)&to, sizeof(to)))
        die("%s: %s", address, strerror(errno));
    return fd;
}

static void send_all(int fd, const void *data, size_t size)
{
    for (const char *at = data; size;) {
        ssize_t sent = write(fd, at, size);

        if (sent < 0)
            die("sending: %s", strerror(errno));
        at += sent;
        size -= sent;
    }
}

static void receive_all(int fd, uint8_t *data, size_t size)
{
    while (size) {
        ssize_t got = read(fd, data, size);

        if (got <= 0)
            die("receiving: %s", got ? strerror(errno) : "the connection ended");
        data += got;
        size -= got;
    }
}

static void echo(const char *address, const char *port, const char *stop)
{
    static uint8_t block[BLOCK], expected[BLOCK];
    int fd = connect_to(address, port);
    uint64_t sent = 0, back = 0;

    send_all(fd, "echo 0\n", 7);
    do {
        while (sent == back || (sent - back < AHEAD && !is_over(stop))) {
            fill(block, BLOCK, sent++);
            send_all(fd, block, BLOCK);
        }
        receive_all(fd, block, BLOCK);
        fill(expected, BLOCK, back);
        if (memcmp(block, expected, BLOCK))
            die("block %" PRIu64 " came back changed", back);
        rest();
    } while (++back < sent || !is_over(stop));
    printf("echo: %" PRIu64 " bytes right\n", back * BLOCK);
}

/* ---- files ---- */

static size_t size_of(uint64_t number)
{
    return 1 + number * 977 % FILE_MOST;
}

static void check_file(const char *name, uint64_t number)
{
    static uint8_t data[FILE_MOST + 1], expected[FILE_MOST];
    size_t size = size_of(number);
    int fd = open(name, O_RDONLY);
    ssize_t got = read(fd, data, sizeof(data));

    if (got < 0)
        die("%s, file %" PRIu64 ": %s", name, number, strerror(errno));
    fill(expected, size, number);
    if ((size_t)got != size || memcmp(data, expected, size))
        die("%s, file %" PRIu64 ": %zd bytes, others than the %zu that were written", name, number,
            got, size);
    close(fd);
}

static void write_file(uint64_t number)
{
    static uint8_t data[FILE_MOST];
    char name[32];
    int fd = open("new", O_WRONLY | O_CREAT | O_EXCL, 0644);

    snprintf(name, sizeof(name), "%" PRIu64, number % FILES);
    fill(data, size_of(number), number);
    if (fd < 0 || write(fd, data, size_of(number)) != (ssize_t)size_of(number) || close(fd) ||
        rename("new", name))
        die("file %" PRIu64 ": %s", number, strerror(errno));
    check_file(name, number);
}

static void files(const char *stop)
{
    FILE *log = fopen("log", "w");
    uint64_t number = 0;

    if (!log)
        die("log: %s", strerror(errno));
    do {
        write_file(++number);
        if (fprintf(log, "%" PRIu64 "\n", number) < 0 || fflush(log))
            die("log: %s", strerror(errno));
        rest();
    } while (!is_over(stop));
    printf("files: %" PRIu64 " right\n", number);
}

static void check(void)
{
    FILE *log = fopen("log", "r");
    uint64_t last = 0, number;
    char name[32];

    for (; log && fscanf(log, "%" SCNu64, &number) == 1; last = number)
        if (number != last + 1)
            die("log: after %" PRIu64 " comes %" PRIu64, last, number);
    if (last < FILES)
        die("log: only %" PRIu64 " files", last);
    for (number = last - FILES + 1; number <= last; number++) {
        snprintf(name, sizeof(name), "%" PRIu64, number % FILES);
        check_file(name, number);
    }
    printf("check: %" PRIu64 " files\n", last);
}

/* ---- the disk ---- */

static void disk_at(int fd, uint64_t number, void *data, bool writes)
{
    off_t at = (off_t)(number % PLACES * PLACE);
    ssize_t done = writes ? pwrite(fd, data, PLACE, at) : pread(fd, data, PLACE, at);

    if (done != PLACE)
        die("disk, round %" PRIu64 ": %s", number, done < 0 ? strerror(errno) : "too short");
}

static void disk(const char *path)
{
    static uint8_t memory[PLACES][PLACE], block[PLACE] __attribute__((aligned(4096)));
    int fd = open(path, O_RDWR | O_DIRECT | O_DSYNC);

    if (fd < 0)
        die("%s: %s", path, strerror(errno));
    for (uint64_t number = 1;; number++) {
        uint64_t oldest = number < PLACES ? 1 : number - PLACES + 1;

        fill(block, PLACE, number);
        memcpy(memory[number % PLACES], block, PLACE);
        disk_at(fd, number, block, true);
        disk_at(fd, oldest, block, false);
        if (memcmp(block, memory[oldest % PLACES], PLACE))
            die("disk: in round %" PRIu64 " round %" PRIu64 " is wrong", number, oldest);
        fill(block, PLACE, oldest);
        if (memcmp(block, memory[oldest % PLACES], PLACE))
            die("memory: in round %" PRIu64 " round %" PRIu64 " is wrong", number, oldest);
        printf("count %" PRIu64 ".\n", number);
        tcdrain(STDOUT_FILENO); /* nobody is told more than the disk has, nor much less */
        rest();
    }
}

/* The place at which the disk is not as it was after that round; PLACES: it is. */
static unsigned disk_differs(int fd, uint64_t last)
{
    static uint8_t block[PLACE], expected[PLACE];

    for (unsigned place = 0; place < PLACES; place++) {
        uint64_t before = (last + PLACES - place) % PLACES; /* rounds since it was written */

        disk_at(fd, place, block, false);
        memset(expected, 0, PLACE);
        if (before < last)
            fill(expected, PLACE, last - before);
        if (memcmp(block, expected, PLACE))
            return place;
    }
    return PLACES;
}

static void disk_check(const char *path, uint64_t from, uint64_t to)
{
    int fd = open(path, O_RDONLY);
    unsigned place = 0;

    if (fd < 0)
        die("%s: %s", path, strerror(errno));
    for (uint64_t number = from; number <= to; number++) {
        place = disk_differs(fd, number);
        if (place == PLACES) {
            printf("disk: round %" PRIu64 "\n", number);
            return;
        }
    }
    die("disk: of none of the rounds %" PRIu64 " to %" PRIu64 ": place %u", from, to, place);
}

/* ---- time and memory ---- */

static void tick(unsigned ms, unsigned mib, unsigned pages)
{
    struct timespec next;
    size_t size = (size_t)mib << 20, at = 0;
    uint8_t *memory = malloc(size);

    if (!memory)
        die("%u MiB: %s", mib, strerror(errno));
    fill(memory, size, 1);
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (unsigned number = 1;; number++) {
        for (unsigned i = 0; i < pages && size; i++, at = (at + 4096) % size)
            memory[at]++;
        printf("tick %u\n", number);
        next.tv_nsec += ms * 1000000L;
        next.tv_sec += next.tv_nsec / 1000000000;
        next.tv_nsec %= 1000000000;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 5 && !strcmp(argv[1], "tick"))
        tick(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
    if (argc == 3 && !strcmp(argv[1], "disk"))
        disk(argv[2]);
    if (argc == 5 && !strcmp(argv[1], "disk")) {
        disk_check(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
    } else if (argc == 5 && !strcmp(argv[1], "echo")) {
        echo(argv[2], argv[3], argv[4]);
    } else if ((argc == 4 && !strcmp(argv[1], "files")) ||
               (argc == 3 && !strcmp(argv[1], "check"))) {
        if (chdir(argv[2]))
            die("%s: %s", argv[2], strerror(errno));
        if (argc == 4)
            files(argv[3]);
        else
            check();
    } else {
        die("echo ADDRESS PORT STOP, files FOLDER STOP, check FOLDER, disk DEVICE, "
            "disk FILE FROM TO, or tick MS MIB PAGES");
    }
    return 0;
}
