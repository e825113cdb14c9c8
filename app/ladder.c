/* SPDX-License-Identifier: MIT
 *
 * The rungs of ladder.h.
 */
#include "app/ladder.h"

#include "engine/engine.h"

size_t ladder_unit(uint32_t batch)
{
    return (STATE_SEGMENT + batch - 1) / batch * batch;
}

size_t ladder_next(size_t at, size_t end, size_t unit)
{
    size_t least = at / unit + 1;               /* in units: the next rung at all */
    size_t most = (at + (end - at) / 9) / unit; /* b - at <= (end - b) / 8 for b <= at + (end - at) / 9 */
    size_t rung = (most > least ? most : least) * unit;
    return rung < end ? rung : end;
}
