int bad_files_placeholder;
