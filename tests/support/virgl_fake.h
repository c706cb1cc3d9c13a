/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virgl_fake - virglrenderer's functions, without GL, for tests of virtio/gpu
 *
 * A program linked with it, its symbols exported, and virtio_gpu_set_library(NULL) has a renderer of 2D
 * textures of 4 bytes a pixel: transfers copy, a command buffer of n words fills the texture its first
 * word names with its second. It asserts what the device has to see to: no context, resource or backing
 * that is not there reaches it, and no size that was not bounded.
 */
#ifndef TESTS_SUPPORT_VIRGL_FAKE_H
#define TESTS_SUPPORT_VIRGL_FAKE_H

#include <stdbool.h>

/* While true no fence is ever done. */
extern bool virgl_fake_holds;
/* While true everything fails that can. */
extern bool virgl_fake_fails;

/* Contexts and resources that there are. */
unsigned virgl_fake_objects(void);

#endif
