from symgrad.algebra.closed import *  # noqa  (moved; being removed)
import symgrad.algebra.closed as _m
globals().update({k: v for k, v in vars(_m).items() if not k.startswith("__")})
