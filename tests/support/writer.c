/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * writer - a guest of some pages that drives a virtio-blk disk, for tests of what happens to a whole machine and its
 * disk: like counter.S it runs where KVM emulates, and boots in no time. Entered by PVH in 32-bit mode, paging off.
 *
 * It prints "start", then "count XXXXXXXX" on the first serial port, one more each time, for ever. Each round writes
 * its block to one of 64 places of the disk and to memory, waits until the disk has it, and reads the oldest block that
 * is still there; what is not as it was written is printed as "wrong". The blocks are those of `traffic disk`, which
 * also tells whether an image is as it was after some round (tests/support/traffic.c).
 *
 * The driver (virtio 1.3, 2.7, 4.1, 5.2) takes no feature but VERSION_1 and asks the used ring for completions; a
 * request that failed, or a device that is not as the specification says, is "wrong" too.
 */
#include <stdbool.h>
#include <stdint.h>

#define PLACES 64u
#define PLACE  4096u
#define BAR    0xd0000000u /* where the driver puts the device's registers: 32 bits reach no further */
#define RING   8u

__asm__(".code32\n"
        ".section .note.pvh, \"a\", @note\n"
        ".balign 4\n"
        ".long 4, 4, 18\n" /* XEN_ELFNOTE_PHYS32_ENTRY */
        ".asciz \"Xen\"\n"
        ".long _start\n"
        ".text\n"
        ".globl _start\n"
        "_start:\n"
        "mov $stack + 4096, %esp\n"
        "cld\n"
        "call run\n");

extern uint8_t stack[4096];
uint8_t stack[4096] __attribute__((aligned(16), used));

void __attribute__((noreturn, used)) run(void);
void *memset(void *to, int value, unsigned long size);
void *memcpy(void *to, const void *from, unsigned long size);

/* The compiler calls these. */
void *memset(void *to, int value, unsigned long size)
{
    for (uint8_t *at = to; size--; at++)
        *at = (uint8_t)value;
    return to;
}

void *memcpy(void *to, const void *from, unsigned long size)
{
    for (unsigned long i = 0; i < size; i++)
        ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    return to;
}

/* ---- ports ---- */

static void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t in8(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static uint32_t in32(uint16_t port)
{
    uint32_t value;

    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void print(const char *text)
{
    for (; *text; text++) {
        while (!(in8(0x3fd) & 0x20))
            continue;
        out8(0x3f8, (uint8_t)*text);
    }
}

static void __attribute__((noreturn)) wrong(void)
{
    print("wrong\n");
    for (;;)
        __asm__ volatile("pause");
}

static void print_count(uint32_t number)
{
    char text[] = "count 00000000\n";

    for (int i = 13; i >= 6; i--, number >>= 4)
        text[i] = "0123456789abcdef"[number & 15];
    print(text);
}

/* ---- the device ---- */

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};

static struct descriptor descriptors[RING] __attribute__((aligned(16)));
static volatile struct {
    uint16_t flags, index, ring[RING];
} available __attribute__((aligned(4)));
static volatile struct {
    uint16_t flags, index;
    struct {
        uint32_t id, length;
    } ring[RING];
} used __attribute__((aligned(4)));
static volatile uint16_t *doorbell;

static uint32_t config_read(unsigned slot, unsigned offset)
{
    out32(0xcf8, 0x80000000u | slot << 11 | (offset & 0xfc));
    return in32(0xcfc) >> (offset & 3) * 8;
}

static void config_write(unsigned slot, unsigned offset, uint32_t value)
{
    out32(0xcf8, 0x80000000u | slot << 11 | offset);
    out32(0xcfc, value);
}

/* Where the capability of virtio's kind @type is in configuration space. */
static unsigned find_capability(unsigned slot, unsigned type)
{
    unsigned at = config_read(slot, 0x34) & 0xfc;

    for (unsigned i = 0; at && i < 48; i++, at = config_read(slot, at + 1) & 0xfc)
        if ((config_read(slot, at) & 0xff) == 0x09 && (config_read(slot, at + 3) & 0xff) == type &&
            !(config_read(slot, at + 4) & 0xff))
            return at;
    wrong();
}

static void set_up_queue(volatile uint8_t *common, unsigned slot)
{
    unsigned notify = find_capability(slot, 2);
    volatile uint64_t *addresses = (volatile uint64_t *)(common + 32);
    unsigned offset;

    *(volatile uint16_t *)(common + 22) = 0; /* queue_select */
    *(volatile uint16_t *)(common + 24) = RING;
    addresses[0] = (uintptr_t)descriptors;
    addresses[1] = (uintptr_t)&available;
    addresses[2] = (uintptr_t)&used;
    offset = *(volatile uint16_t *)(common + 30) * config_read(slot, notify + 16);
    doorbell = (volatile uint16_t *)(BAR + config_read(slot, notify + 8) + offset);
    *(volatile uint16_t *)(common + 28) = 1; /* queue_enable */
}

static void set_up(void)
{
    volatile uint8_t *common;
    unsigned slot = 0;

    while (slot < 32 && config_read(slot, 0) != 0x10421af4)
        slot++;
    if (slot == 32)
        wrong();
    config_write(slot, 0x10, BAR);
    config_write(slot, 0x14, 0);
    config_write(slot, 0x04, 6); /* memory, bus mastering */
    common = (volatile uint8_t *)BAR + config_read(slot, find_capability(slot, 1) + 8);
    common[20] = 0; /* device_status */
    while (common[20])
        continue;
    common[20] = 1 | 2;
    *(volatile uint32_t *)(common + 8) = 0; /* driver_feature_select */
    *(volatile uint32_t *)(common + 12) = 0;
    *(volatile uint32_t *)(common + 8) = 1;
    *(volatile uint32_t *)(common + 12) = 1; /* VERSION_1 */
    common[20] = 1 | 2 | 8;
    if (!(common[20] & 8))
        wrong();
    set_up_queue(common, slot);
    common[20] = 1 | 2 | 8 | 4;
}

/* One request at a time. */
static void transfer(uint32_t number, void *data, bool writes)
{
    static struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;
    static volatile uint8_t status;
    uint16_t index = available.index;

    header.type = writes;
    header.sector = number % PLACES * (PLACE / 512);
    status = 0xff;
    descriptors[0] = (struct descriptor){(uintptr_t)&header, sizeof(header), 1, 1};
    descriptors[1] = (struct descriptor){(uintptr_t)data, PLACE, writes ? 1 : 1 | 2, 2};
    descriptors[2] = (struct descriptor){(uintptr_t)&status, 1, 2, 0};
    available.ring[index % RING] = 0;
    __sync_synchronize();
    available.index = index + 1;
    __sync_synchronize();
    *doorbell = 0;
    while (used.index == index)
        __asm__ volatile("pause");
    __sync_synchronize();
    if (used.index != (uint16_t)(index + 1) || status)
        wrong();
}

/* ---- the rounds ---- */

/* xorshift64*, as traffic.c. */
static void fill(uint8_t *data, uint32_t number)
{
    uint64_t x = number * 0x9e3779b97f4a7c15u + 1;

    for (unsigned at = 0; at < PLACE; at += 8) {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        *(uint64_t *)(data + at) = x * 0x2545f4914f6cdd1du;
    }
}

static bool differ(const uint8_t *one, const uint8_t *other)
{
    for (unsigned i = 0; i < PLACE; i++)
        if (one[i] != other[i])
            return true;
    return false;
}

void run(void)
{
    static uint8_t memory[PLACES][PLACE], block[PLACE];

    print("start\n");
    set_up();
    for (uint32_t number = 1;; number++) {
        uint32_t oldest = number < PLACES ? 1 : number - PLACES + 1;

        fill(memory[number % PLACES], number);
        transfer(number, memory[number % PLACES], true);
        transfer(oldest, block, false);
        if (differ(block, memory[oldest % PLACES]))
            wrong();
        fill(block, oldest);
        if (differ(block, memory[oldest % PLACES]))
            wrong();
        print_count(number);
    }
}
