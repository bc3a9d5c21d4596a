# The version comes from git: the last tag v*, the commits since, the commit; VIC_RELEASE or "0.0.0" where there is no git (a source archive,
# the build of the image). VIC_DATE is the commit's.
set(VIC_RELEASE "" CACHE STRING "The version, where git does not tell it")
find_package(Git QUIET)
set(VIC_VERSION 0.0.0)
set(VIC_DATE "")
if(VIC_RELEASE)
  set(VIC_VERSION ${VIC_RELEASE})
elseif(GIT_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} -c safe.directory=* describe --tags --match v* --dirty
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} OUTPUT_VARIABLE described OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(failed)
    execute_process(COMMAND ${GIT_EXECUTABLE} -c safe.directory=* describe --always --dirty
      WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} OUTPUT_VARIABLE described OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
    set(described "v0.0.0+${described}")
  endif()
  if(NOT failed)
    string(REGEX REPLACE "^v" "" VIC_VERSION "${described}")
    execute_process(COMMAND ${GIT_EXECUTABLE} -c safe.directory=* log -1 --format=%cs
      WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} OUTPUT_VARIABLE VIC_DATE OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
endif()
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/.git/HEAD)
message(STATUS "version ${VIC_VERSION}")
