/* SPDX-License-Identifier: MIT
 *
 * How fast texts are read, so that what a reading will take can be told before it begins. A token costs a + b * depth
 * seconds, depth being the tokens before it: attention grows with what there is to attend to. a and b are fitted to
 * what stretches of reading have really taken, and kept in a file beside the store (DIR/reading-speed), one line for
 * each model on each device.
 */
#ifndef LECTERN_APP_SPEED_H
#define LECTERN_APP_SPEED_H

#include "engine/engine.h"

/* Sums over stretches of n tokens around the depth m that took t seconds: of n, n m, n m^2, t, m t. All zeros: nothing
 * is known. */
struct speed {
    double tokens, depth, depth2, seconds, depth_seconds;
};
/* Tokens [first, end) took so long. */
void speed_add(struct speed *, size_t first, size_t end, double seconds);
/* What tokens [first, end) will take; 0 = not known. */
double speed_seconds(const struct speed *, size_t first, size_t end);

/* A reading as it is told on its way: what it began at, where it stands, the seconds between. Zero-initialise. */
struct speed_meter {
    size_t at;
    double seconds;
    struct speed first, rest; /* the first stretch may pay for what is only done once */
};
void speed_meter_note(struct speed_meter *, size_t first, size_t at, double seconds);
struct speed speed_meter_read(const struct speed_meter *);

/* What readings with this model on this device have taken; zeros where nothing is known. dir may be NULL. */
struct speed speed_recall(const char *dir, const struct engine_info *);
/* Adds a reading to them; the older ones count for half of what they did. One under 512 tokens says little and is
 * passed over; what cannot be written is forgotten. */
void speed_keep(const char *dir, const struct engine_info *, const struct speed *);

#endif
