if(RAY_HIXL_SANITIZE)
  # Without the check of dynamic types: it opens a pipe to look at an object, and takes an object for none where a test has taken all
  # descriptors away.
  add_compile_options(-fsanitize=${RAY_HIXL_SANITIZE} -fno-sanitize=vptr -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${RAY_HIXL_SANITIZE})
endif()
