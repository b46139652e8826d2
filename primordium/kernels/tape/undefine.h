/* Forgets the number type, so that machine.h can be included for another. */

#undef IS_DOUBLE
#undef REAL
#undef UINT
#undef F
#undef LITERAL
#undef SQRT
#undef FABS
#undef MANTISSA
#undef BIAS
#undef MAGIC
#undef LN2_HIGH
#undef LN2_LOW
#undef EXP_TERMS
#undef EXP_START
#undef EXP_HIGH
#undef EXP_LOW
#undef SMALLEST_NORMAL
#undef SUBNORMAL_SCALE
#undef SUBNORMAL_LOG
#undef LARGEST
#undef TRIGONOMETRIC_LIMIT
