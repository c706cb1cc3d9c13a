/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rss - the Toeplitz hash of receive side scaling
 *
 * For each bit of the input that is set, 32 bits of the key from that bit on are added (exclusive or).
 * The input is addresses, then ports, as they lie in the packet.
 */
#include "devices/vmxnet3/private.h"

uint32_t vmxnet3_toeplitz(const uint8_t key[VMXNET3_RSS_KEY], const uint8_t *input, size_t size)
{
    uint64_t window = 0;
    uint32_t hash = 0;

    for (unsigned i = 0; i < 4; i++)
        window = window << 8 | key[i];
    for (size_t i = 0; i < size; i++) {
        window = window << 8 | (i + 4 < VMXNET3_RSS_KEY ? key[i + 4] : 0);
        for (unsigned bit = 0; bit < 8; bit++)
            if (input[i] & 0x80 >> bit)
                hash ^= window >> (8 - bit);
    }
    return hash;
}
