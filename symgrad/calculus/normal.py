from symgrad.algebra.normal import *  # noqa  (moved; being removed)
import symgrad.algebra.normal as _m
globals().update({k: v for k, v in vars(_m).items() if not k.startswith("__")})
