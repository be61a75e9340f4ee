if(RAY_HIXL_SANITIZE)
  add_compile_options(-fsanitize=${RAY_HIXL_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${RAY_HIXL_SANITIZE})
endif()
