/* SPDX-License-Identifier: GPL-2.0-or-later */
/* options - limits of the run options; the tables are declared in lodge/configuration.h */
#ifndef LODGE_OPTIONS_H
#define LODGE_OPTIONS_H

#define RUN_MIN_MEMORY (UINT64_C(64) << 20)
#define RUN_MAX_MEMORY (UINT64_C(1) << 40)

#endif
