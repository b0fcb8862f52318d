from symgrad.algebra.delta import *  # noqa  (moved; being removed)
import symgrad.algebra.delta as _m
globals().update({k: v for k, v in vars(_m).items() if not k.startswith("__")})
