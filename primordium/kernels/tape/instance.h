/* The machine of one instruction set for both number types; SET is the set's name. */

#define NAME_(name, type, set) name##_##type##_##set
#define NAME(name, type, set) NAME_(name, type, set)

#define IS_DOUBLE 1
#define REAL double
#define UINT uint64_t
#define F(name) NAME(name, f64, SET)
#define LITERAL(x) x
#define SQRT sqrt
#define FABS fabs
#define MANTISSA 52
#define BIAS 1023
#define MAGIC 6755399441055744.0
#define LN2_HIGH 6.93147180369123816490e-01
#define LN2_LOW 1.90821492927058770002e-10
#define EXP_TERMS 13
#define EXP_START (1.0 / 6227020800.0)
#define EXP_HIGH 710.0
#define EXP_LOW -746.0
#define SMALLEST_NORMAL DBL_MIN
#define SUBNORMAL_SCALE 18014398509481984.0
#define SUBNORMAL_LOG 37.429947750237048
#define LARGEST DBL_MAX
#include "machine.h"
#include "dual.h"
#include "undefine.h"

#define IS_DOUBLE 0
#define REAL float
#define UINT uint32_t
#define F(name) NAME(name, f32, SET)
#define WIDE(name) NAME(name, f64, SET)
#define LITERAL(x) x##f
#define SQRT sqrtf
#define FABS fabsf
#define MANTISSA 23
#define BIAS 127
#define MAGIC 12582912.0f
#define LN2_HIGH 0.693359375f
#define LN2_LOW -2.12194440e-4f
#define EXP_TERMS 7
#define EXP_START (1.0f / 5040.0f)
#define EXP_HIGH 89.0f
#define EXP_LOW -104.0f
#define SMALLEST_NORMAL FLT_MIN
#define SUBNORMAL_SCALE 16777216.0f
#define SUBNORMAL_LOG 16.635532333438687f
#define LARGEST FLT_MAX
#include "machine.h"
#include "undefine.h"

#undef WIDE
#undef NAME
#undef NAME_
