# Compiler options that hold for every file, and the switches of the presets.
option(VIC_TESTS "Build the tests" ON)
option(VIC_FUZZ "Build the fuzz targets (clang only)" OFF)
set(VIC_SANITIZE "" CACHE STRING "Sanitizers, as for -fsanitize=")
option(VIC_COVERAGE "Count executed lines" OFF)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)

add_compile_definitions(_GNU_SOURCE _FILE_OFFSET_BITS=64)
add_compile_options(-Wall -Wextra -Wshadow -Wvla -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith
  -Wundef -Wwrite-strings -Werror)
add_link_options(-Wl,--as-needed -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,-z,separate-code)
include(CheckPIESupported)
check_pie_supported()

# What is installed is hardened; test/integration/test_image.sh looks whether it is.
if(VIC_SANITIZE)
  add_compile_options(-fsanitize=${VIC_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${VIC_SANITIZE})
elseif(CMAKE_BUILD_TYPE MATCHES "Rel")
  add_compile_options(-fstack-protector-strong -fstack-clash-protection)
  add_compile_options(-Wno-error=maybe-uninitialized -Wno-unknown-warning-option) # what the optimizer guesses breaks nobody's build
  add_compile_definitions(_FORTIFY_SOURCE=3)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    # The start files of Debian's C library do not carry the marks, though they may: the linker is told.
    add_compile_options(-fcf-protection=full)
    add_link_options(-Wl,-z,ibt -Wl,-z,shstk)
  endif()
endif()
if(VIC_COVERAGE)
  add_compile_options(--coverage)
  add_link_options(--coverage)
endif()
if(VIC_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
