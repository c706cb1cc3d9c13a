/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check_state - what every state table must pass
 *
 * A violated expectation ends the test (g_assert), with the field's name as message.
 */
#ifndef TESTS_SUPPORT_CHECK_STATE_H
#define TESTS_SUPPORT_CHECK_STATE_H

#include "vmm/state.h"

/* Is the declaration sound: names unique and short, counters listed before what they count, versions
 * in order, arrays that do not overlap? Nested tables too. */
void check_state_table(const struct state_table *table);

/*
 * Puts random values into every field of @object that the table declares (counts within bounds;
 * buffers are allocated, the caller frees them). Indirect arrays must have their room.
 */
void check_state_randomize(const struct state_table *table, void *object, GRand *rand);

/* Saves @from, loads it into @to, saves that: both streams must be equal. */
void check_state_round_trip(const struct state_table *table, const void *from, void *to);

/* Cuts the encoding of @object off at every byte: loading it into @to must fail and change nothing
 * that a save of @to shows. */
void check_state_truncated(const struct state_table *table, const void *object, void *to);

#endif
