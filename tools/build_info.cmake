# Writes OUT, a C++ file that says what is being built (src/apps/build_info.h); runs at every build and touches the file only
# when it would differ. SOURCE is the source tree; VERSION, LEVELS, COMPILER and BUILD go in as they are.
set(commit "unknown")
find_program(GIT git)
if(GIT AND EXISTS ${SOURCE}/.git)  # not the repository that a tarball happens to lie in
  execute_process(COMMAND ${GIT} -C ${SOURCE} describe --always --dirty --abbrev=12 --exclude=*
                  OUTPUT_VARIABLE described RESULT_VARIABLE failed ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT failed AND described MATCHES "^[0-9a-f]+(-dirty)?$")
    set(commit ${described})
  endif()
endif()
set(text "// Made by tools/build_info.cmake.
#include \"apps/build_info.h\"

const fathom::apps::BuildInfo& fathom::apps::build_info() {
  static constexpr BuildInfo kInfo = {
      .version = \"${VERSION}\",
      .commit = \"${commit}\",
      .levels = \"${LEVELS}\",
      .compiler = \"${COMPILER}\",
      .build = \"${BUILD}\"};
  return kInfo;
}
")
set(old "")
if(EXISTS ${OUT})
  file(READ ${OUT} old)
endif()
if(NOT old STREQUAL text)
  file(WRITE ${OUT} "${text}")
endif()
