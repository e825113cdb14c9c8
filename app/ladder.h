/* SPDX-License-Identifier: MIT
 *
 * Where snapshots stand in a text that is read. Whoever goes back from its end, because a document changed or was
 * replaced, finds one so close before the place that at most an eighth of the distance is evaluated again:
 *
 *   b - a <= max((end - b) / 8, unit)     for neighbours a < b
 *
 * A rung near the end is one unit high; from 8 units on rungs grow with the distance, by 9/8 each, so that a text of n
 * tokens has about 8 + 6 log2(n / 4096) of them. The unit is the floor: a batch, or the batches that make up a row
 * segment of 512 tokens where one is less. Rungs stand at multiples of the batch, so that stopping there changes no
 * batch. store/save.c and timeline_mark thin by the same rule what the growing conversation leaves behind.
 */
#ifndef LECTERN_APP_LADDER_H
#define LECTERN_APP_LADDER_H

#include <stddef.h>
#include <stdint.h>

size_t ladder_unit(uint32_t batch);
/* The first rung after `at`: a multiple of unit, or `end`. at < end. */
size_t ladder_next(size_t at, size_t end, size_t unit);

#endif
