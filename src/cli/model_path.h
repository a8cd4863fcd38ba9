#pragma once

#include <string>

#include "sluice/error.h"
#include "sluice/runtime.h"

namespace sluice::cli {

// Where a model that the command line names lies: a folder, "null", or, if there is no such folder,
// the snapshot of a Hugging Face id ("org/name") that is in the local cache already. Nothing is
// ever downloaded.
//
// The cache is $HF_HUB_CACHE, else $HF_HOME/hub, else ~/.cache/huggingface/hub (in
// $XDG_CACHE_HOME, if that is set); its snapshot is the one that refs/main names. Such a model is
// called by its id.
//   text   [NAME=]PATH if `may_be_named`, else PATH; PATH is the folder or the id
// kNotFound, with the folder that was looked in and the command that downloads the model.
Result<ModelSource> find_model(const std::string& text, bool may_be_named = false);

}  // namespace sluice::cli
