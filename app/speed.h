/* SPDX-License-Identifier: MIT
 *
 * How fast texts were read: a file beside the store (DIR/reading-speed), one line for each model on each device, so
 * that what a reading will take can be told before it begins.
 */
#ifndef LECTERN_APP_SPEED_H
#define LECTERN_APP_SPEED_H

#include "engine/engine.h"

/* Tokens a second at the last reading that was long enough to tell; 0 = none yet. dir may be NULL. */
double speed_recall(const char *dir, const struct engine_info *);
/* Remembers it. A reading under 512 tokens says little and is passed over; what cannot be written is forgotten. */
void speed_keep(const char *dir, const struct engine_info *, size_t tokens, double rate);

#endif
