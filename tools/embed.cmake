# Writes a C++ file with the files of the web page: those of WEB and what they use of Debian's packages, text gzipped.
#   cmake -DGZIP=gzip -DWEB=web -DLICENSE=LICENSE -DOUT=page_assets.cc -P embed.cmake
cmake_minimum_required(VERSION 3.25)

set(js /usr/share/javascript)
set(libraries
  ${js}/marked/marked.umd.min.js=marked.js=libjs-marked
  /usr/share/nodejs/dompurify/dist/purify.min.js=purify.js=node-dompurify
  ${js}/katex/katex.min.js=katex.js=libjs-katex
  ${js}/katex/katex.min.css=katex.css=libjs-katex
  ${js}/highlight.js/highlight.min.js=highlight.js=libjs-highlight.js)
set(css_type "text/css; charset=utf-8")
set(html_type "text/html; charset=utf-8")
set(js_type "text/javascript; charset=utf-8")
set(svg_type "image/svg+xml")
set(txt_type "text/plain; charset=utf-8")
set(woff2_type "font/woff2")

set(work ${OUT}.tmp)
file(MAKE_DIRECTORY ${work})
set(arrays "")
set(table "")
set(count 0)

# One asset: what the request's path is, and the file behind it. Fonts are compressed already, and the page itself is
# small: whoever looks at it with a client that cannot unpack can read it.
function(embed path file)
  cmake_path(GET file EXTENSION LAST_ONLY extension)
  string(SUBSTRING ${extension} 1 -1 extension)
  set(gzipped true)
  set(source ${file})
  if(extension STREQUAL "woff2" OR extension STREQUAL "html")
    set(gzipped false)
  else()
    set(source ${work}/asset.gz)
    execute_process(COMMAND ${GZIP} -9 -n -c ${file} OUTPUT_FILE ${source} COMMAND_ERROR_IS_FATAL ANY)
  endif()
  file(SHA256 ${source} hash)
  string(SUBSTRING ${hash} 0 24 hash)
  file(READ ${source} bytes HEX)
  string(REGEX REPLACE "(................................................................)" "\\1\n" bytes "${bytes}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  set(name kAsset${count})
  file(APPEND ${work}/arrays "constexpr uint8_t ${name}[] = {\n${bytes}};\n")
  file(APPEND ${work}/table "    {\"${path}\", \"${${extension}_type}\", \"\\\"${hash}\\\"\", ${gzipped}, ${name}},\n")
  math(EXPR count "${count} + 1")
  set(count ${count} PARENT_SCOPE)
endfunction()

file(WRITE ${work}/arrays "")
file(WRITE ${work}/table "")
file(GLOB own ${WEB}/*)
foreach(file ${own})
  cmake_path(GET file FILENAME name)
  if(name STREQUAL "index.html")
    embed(/ ${file})
  else()
    embed(/assets/${name} ${file})
  endif()
endforeach()

file(READ ${LICENSE} licences)
set(licences "fathom\n======\n\n${licences}")
set(packages fonts-katex)
foreach(library ${libraries})
  string(REPLACE "=" ";" parts ${library})
  list(GET parts 0 file)
  list(GET parts 1 name)
  list(GET parts 2 package)
  if(NOT EXISTS ${file})
    message(FATAL_ERROR "${file} is missing: install the Debian package ${package} (tools/packages-run.txt)")
  endif()
  embed(/assets/lib/${name} ${file})
  list(APPEND packages ${package})
endforeach()
file(GLOB fonts /usr/share/fonts/truetype/katex/*.woff2)
if(NOT fonts)
  message(FATAL_ERROR "KaTeX's fonts are missing: install the Debian package fonts-katex")
endif()
foreach(file ${fonts})
  cmake_path(GET file FILENAME name)
  embed(/assets/lib/fonts/${name} ${file})
endforeach()
list(REMOVE_DUPLICATES packages)
foreach(package ${packages})
  file(READ /usr/share/doc/${package}/copyright text)
  string(APPEND licences "\n\n${package}\n======\n\n${text}")
endforeach()
file(WRITE ${work}/licenses.txt "${licences}")
embed(/licenses ${work}/licenses.txt)

file(READ ${work}/arrays arrays)
file(READ ${work}/table table)
file(WRITE ${OUT} "// Written by tools/embed.cmake.
#include <cstdint>

#include \"serve/page.h\"

namespace fathom::serve {
namespace {

${arrays}
constexpr PageAsset kAssets[] = {
${table}};

}  // namespace

std::span<const PageAsset> page_assets() { return kAssets; }

}  // namespace fathom::serve
")
file(REMOVE_RECURSE ${work})
