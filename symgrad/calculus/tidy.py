from symgrad.algebra.tidy import *  # noqa  (moved; being removed)
import symgrad.algebra.tidy as _m
globals().update({k: v for k, v in vars(_m).items() if not k.startswith("__")})
