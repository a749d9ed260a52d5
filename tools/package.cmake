# cpack -G DEB in the build directory: a Debian package of what `cmake --install` installs. What the program needs of the
# system is read from it by dpkg-shlibdeps.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME fathom)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "the fathom authors <fathom@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "run and train DeepSeek-family language models")
set(CPACK_PACKAGE_DESCRIPTION "Chats with, serves (OpenAI's API over HTTP), measures, quantises and trains language models of the
DeepSeek architecture (MLA, mixtures of experts, FP8, MTP) on the CPU, from Hugging Face directories and GGUF files.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
include(CPack)
