/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rtc - an MC146818 real-time clock with 128 bytes of CMOS memory, on ports 0x70 and 0x71
 *
 * Stock driver: rtc_cmos. The time is the host's (UTC) until the guest sets another one, which then
 * runs on at the host's pace. Contract and limits: rtc.c.
 *
 * Threads: created and destroyed on the main thread; registers on vCPU threads; timers on @loop.
 */
#ifndef DEVICES_RTC_H
#define DEVICES_RTC_H

#include <glib.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/device.h"
#include "vmm/irq.h"
#include "vmm/loop.h"

struct rtc;

struct rtc_config {
    struct bus *ports;
    uint16_t base; /* LAYOUT_PORT_RTC */
    struct interrupts *interrupts;
    uint32_t gsi; /* LAYOUT_GSI_RTC */
    struct loop *loop;
    int64_t offset_ns; /* guest time minus host time at the start; 0: the host's time */
};

struct rtc *rtc_create(const struct rtc_config *config, GError **error); /* device "rtc" */
void rtc_destroy(struct rtc *rtc);                                       /* NULL is allowed */
struct device *rtc_device(struct rtc *rtc);

#endif
