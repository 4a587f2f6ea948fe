"""Text that C takes: names of functions, strings, comments."""

from __future__ import annotations

import re
from typing import Any

# what a function of this name would clash with, in C99 to C23, C++ or their libraries
_KEYWORDS = """
alignas alignof and and_eq asm atomic_cancel atomic_commit atomic_noexcept auto bitand bitor bool break case
catch char char16_t char32_t char8_t class co_await co_return co_yield compl complex concept const
const_cast consteval constexpr constinit continue decltype default delete do double dynamic_cast else enum
explicit export extern false float for friend goto if imaginary inline int long mutable namespace new
noexcept not not_eq nullptr operator or or_eq private protected public reflexpr register reinterpret_cast
requires restrict return short signed sizeof static static_assert static_cast struct switch synchronized
template this thread_local throw true try typedef typeid typename typeof typeof_unqual union unsigned using
virtual void volatile wchar_t while xor xor_eq
""".split()
_LIBRARY = """
abort abs acos acosh asctime asin asinh assert atan atan2 atanh atexit atof atoi atol atoll bsearch btowc
cabs cacos calloc carg cbrt ccos ceil cexp cimag clearerr clock clog conj copysign cos cosh cpow cproj creal
csin csqrt ctan ctime difftime div environ erf erfc errno exit exp exp2 expm1 fabs fclose fdim feof ferror
fflush fgetc fgetpos fgets floor fma fmax fmin fmod fopen fprintf fputc fputs fread free freopen frexp
fscanf fseek fsetpos ftell fwrite gamma getc getchar getenv gets gmtime hypot ilogb index isalnum isalpha
isascii isblank iscntrl isdigit isfinite isgraph isinf islower isnan isnormal isprint ispunct isspace
isupper isxdigit j0 j1 jn labs ldexp ldiv lgamma llabs lldiv llrint llround localtime log log10 log1p log2
logb longjmp lrint lround main malloc mblen memchr memcmp memcpy memmove memset mktime modf nan nearbyint
nextafter nexttoward perror pow printf putc putchar puts qsort raise rand realloc remainder remove remquo
rename rewind rindex rint round scalbln scalbn scanf setbuf setjmp setlocale setvbuf signal signbit sin sinh
snprintf sprintf sqrt srand sscanf stderr stdin stdout strcat strchr strcmp strcoll strcpy strcspn strdup
strerror strftime strlen strncat strncmp strncpy strpbrk strrchr strspn strstr strtod strtof strtok strtol
strtoll strtoul strtoull strxfrm system tan tanh tgamma time tmpfile tmpnam tolower toupper trunc ungetc
va_arg va_copy va_end va_list va_start vfprintf vprintf vsnprintf vsprintf y0 y1 yn
""".split()
_MACROS = ("NULL", "EOF", "NAN", "INFINITY", "I")
_OF_STDINT = (
    r"u?int(_least|_fast)?\d+_t|u?int(ptr|max)_t|(size|ptrdiff|time|wint|fpos)_t|U?INT\w*_(C|MAX|MIN)"
)


def check_name(name: Any) -> None:
    """Raise ValueError for what cannot be the name of a function in C and in C++."""
    takes = "takes a C identifier such as 'predict'"
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"name: got {name!r}, {takes}")
    taken = name in (*_KEYWORDS, *_LIBRARY, *_MACROS) or re.sub("[fl]$", "", name) in _LIBRARY  # expf, expl
    if taken or name.startswith("_") or "__" in name or re.fullmatch(_OF_STDINT, name):
        raise ValueError(f"name: got {name!r}, which C or C++ has for itself, {takes}")


def comment(text: str) -> str:
    """Text that ends no comment and begins none, on one line."""
    text = "".join(c if c.isprintable() else " " for c in text).replace("\\", "/")
    return re.sub(r"(?<=\*)(?=/)|(?<=/)(?=\*)|(?<=\?)(?=\?)", " ", text)


def string(label: str) -> str:
    """A C string of any characters, as the bytes of UTF-8: octal for all that is not plain."""
    encoded = label.encode("utf-8", "surrogatepass")
    plain = (chr(c) if 32 <= c < 127 and chr(c) not in '"\\?' else f"\\{c:03o}" for c in encoded)
    return f'"{"".join(plain)}"'
