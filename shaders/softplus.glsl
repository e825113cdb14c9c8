// SPDX-License-Identifier: MIT
//
// log(1 + exp(x)). Small exponentials by the series: 1 + e would lose their digits.
float softplus(float x)
{
    const float e = exp(min(x, 20)), small = e * (1 - e * (0.5 - e * (1.0 / 3 - e * 0.25)));
    return x > 20 ? x : e < 0.01 ? small : log(1 + e);
}
