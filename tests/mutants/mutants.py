"""The list of mutants: mistakes that the code could have, and the test that notices each.

If a test no longer kills its mutant, sharpen the test. If the text that a mutant replaces is gone, give the mutant a new
text.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """A mistake: `old`, which occurs once in src/dlintro/`file`, becomes `new`. `killer` names the tests in tests/,
    separated by "; ", of which at least one must then fail."""

    name: str
    file: str
    old: str
    new: str
    killer: str

    @property
    def killers(self) -> list[str]:
        return [f"tests/{test}" for test in self.killer.split("; ")]

    def apply(self, project: Path) -> None:
        path = project / "src" / "dlintro" / self.file
        text = path.read_text(encoding="utf-8")
        num = text.count(self.old)
        assert num == 1, f"mutant {self.name!r}: {self.old!r} occurs {num} times in {self.file}; give it another text"
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


RESUMED = "run/test_resume.py::test_a_resumed_run_equals_the_undisturbed_one"
BEST = "callbacks/test_checkpoints.py::test_best_is_the_first_epoch_of_the_highest_validation_accuracy_with_its_weights"
CHOSEN = "run/test_uneven_classes.py::test_what_trainer_best_names_chooses_the_epoch_and_stops_early"
WEIGHTED = "run/test_uneven_classes.py::test_balanced_classes_weigh_equally_in_the_training_loss_and_nowhere_else"
BALANCED = "models/test_tally.py::test_balanced_and_top5_accuracy_are_torchmetrics_in_each_epoch"
ON_DISK = "callbacks/test_checkpoints.py::test_a_checkpoint_is_on_the_disk_before_it_has_its_name"
WHOLE = "callbacks/test_checkpoints.py::test_a_checkpoint_that_cant_be_written_leaves_the_old_one_whole"
LAST_AND_BEST = "run/test_train.py::test_the_test_accuracies_are_those_of_the_last_and_of_the_best_weights"
EMA = "callbacks/test_averaging.py::test_the_average_begins_at_the_first_weights_and_forgets_them_sooner_at_first"
DRAWS = "data/test_augment.py::test_the_draws_are_of_seed_epoch_and_batch_and_validation_has_none"
TURNS = "data/test_augment.py::test_a_rotation_turns_by_up_to_15_degrees_and_shifts_by_a_tenth_with_black_around"
AFFINE = "data/test_augment.py::test_a_rotation_is_torchvisions_affine_by_the_same_angle_and_shift"
EVEN = "data/test_augment.py::test_each_window_each_side_and_each_centre_is_as_likely_as_the_others"
ZOOMS = "data/test_augment.py::test_every_zoom_up_to_a_tenth_is_as_likely"
SHIFTS = "data/test_augment.py::test_a_shift_mirrors_what_moves_in"
WAVES = "data/test_augment.py::test_elastic_is_torchvisions_by_a_smooth_field_of_the_same_height_everywhere"
TRIVIAL = "data/test_augment.py::test_trivial_draws_torchvisions_operations_each_as_often"
ERASED = "data/test_augment.py::test_erased_rectangles_are_as_likely_as_torchvisions"
ITSELF = "data/test_augment.py::test_an_image_is_changed_by_itself_whatever_else_is_in_the_batch"
VIEWED = "commands/test_evaluate.py::test_averaged_views_are_reported_apart"
NORMALISED = "data/test_module.py::test_pixels_are_normalised_by_the_training_images_alone"
STRATIFIED = "data/test_module.py::test_stratified_takes_each_classs_share_and_others_takes_the_rest"
APART = "data/test_split.py::test_no_image_is_for_two_purposes_and_the_split_stays_what_it_was"
PACKED = "data/test_packed.py::test_a_pack_has_the_pixels_the_split_and_the_statistics_of_its_set"
STOPPED_PACKING = "data/test_packed.py::test_a_packing_that_was_stopped_goes_on_and_ends_as_the_same_pack"
CHANGED_BYTE = "data/test_packed.py::test_a_changed_byte_is_noticed_when_its_image_is_read"
PARTS = "data/test_encoded.py::test_parts_are_those_of_seed_epoch_and_index_for_any_workers_and_from_files_or_a_pack"
MIDDLE = "data/test_encoded.py::test_evaluation_sees_the_pixels_that_torchvisions_references_see"
WINDOWS = "data/test_encoded.py::test_random_parts_are_as_likely_as_torchvisions"
ORDER = "data/test_split.py::test_seeds_and_epochs_have_orders_of_their_own"
CLOCK = "callbacks/test_throughput.py::test_the_clock_of_the_training_stands_still_during_evaluations"
UNBIASED = "callbacks/test_noise_scale.py::test_both_parts_are_the_unbiased_estimates_of_the_small_batches_gradients"
READINGS = "callbacks/test_noise_scale.py::test_a_runs_readings_are_those_of_all_its_images"
RATES = "models/test_optim.py::test_the_rate_of_each_step_is_that_of_the_formula"
ADAM = "models/test_optim.py::test_adam_adds_the_decay_to_the_gradient_and_adamw_takes_it_off_the_weight"
SGD = "models/test_optim.py::test_sgd_adds_the_decay_to_the_gradient_and_looks_ahead_with_nesterov"
VECTORS = "models/test_optim.py::test_biases_and_scales_may_be_left_out_of_the_decay"
SMOOTHED = "models/test_classifier.py::test_a_step_learns_from_the_smoothed_labels"
METRICS = "models/test_classifier.py::test_epoch_metrics_are_weighted_by_images_for_any_split_into_batches"
EVERY_IMAGE = "models/test_classifier.py::test_validation_and_test_see_every_image_once_whatever_the_batch_size"
PIXELS = "models/test_classifier.py::test_pixels_are_scaled_and_normalised_as_published_and_padded_with_black"
ACCUMULATED = "models/test_classifier.py::test_accumulated_batches_are_one_larger_batch"
ENDS = "models/test_trainer.py::test_the_schedule_ends_with_the_training"
GRID = "callbacks/test_eval_grid.py::test_every_batch_size_is_evaluated_on_the_same_grid"
EQUAL_STEPS = (
    "callbacks/test_eval_grid.py::"
    "test_equal_steps_are_equal_for_every_batch_size_and_agree_with_equal_epochs_at_the_reference"
)
BETWEEN = "test_target.py::test_a_target_is_read_between_the_two_readings_around_it"
BEND = "sweep/test_critical_batch.py"
COVERS = "claims/test_simulated.py::test_the_interval_of_values_covers_the_truth_and_is_no_wider_than_it_must_be"
CORE = "claims/test_verdict.py::test_the_core_gives_the_verdict"
WILSON = "run/test_results.py"
RECORD = "run/test_record.py"
DIED = "run/test_resume.py::test_a_run_that_died_in_its_test_is_only_tested_again"
LOCKS = "sweep/test_standing.py"
FROZEN = "models/test_backbone.py::test_a_frozen_backbone_and_its_batch_norm_stay_bit_for_bit_what_they_were"
ALONE = "models/test_backbone.py::test_the_head_learns_alone_for_as_many_epochs_as_asked"

MUTANTS = (
    # The best epoch, and the two tests of a run.
    Mutant("best is the lowest accuracy", "callbacks/checkpoints.py", "else now > before", "else now < before", BEST),
    Mutant("of equals the last is best", "callbacks/checkpoints.py", "else now > before", "else now >= before", BEST),
    Mutant("best is numbered from 1", "callbacks/checkpoints.py", "= trainer.current_epoch, {", "= trainer.current_epoch + 1, {", BEST),
    Mutant("best weights aren't tested", "run/train.py", 'model.load_state_dict(read_tensors(checkpoints.best)["state_dict"])', "pass", LAST_AND_BEST),
    Mutant("the last epoch but one isn't tested", "run/train.py", "checkpoints.best_epoch + 1 < ", "checkpoints.best_epoch + 2 < ", LAST_AND_BEST),
    Mutant("early stopping waits for a lower accuracy", "run/train.py", '"min" if falls(settings.best) else "max"', '"max" if falls(settings.best) else "min"', "run/test_train.py::test_early_stopping_waits_for_a_higher_accuracy"),
    Mutant("early stopping's patience is one more", "run/train.py", "patience=settings.early_stopping", "patience=settings.early_stopping + 1", "run/test_train.py::test_early_stopping_waits_for_a_higher_accuracy"),
    Mutant("best is the highest loss", "callbacks/checkpoints.py", "now < before if falls", "now > before if falls", CHOSEN),
    Mutant("early stopping always waits for the accuracy", "run/train.py", "EarlyStopping(settings.best,", 'EarlyStopping("val/acc",', CHOSEN),
    # Classes of different sizes.
    Mutant("weights of classes aren't normalised", "data/module.py", "len(labels_N) / (present * num)", "1 / num", WEIGHTED),
    Mutant("rare classes weigh less", "data/module.py", "len(labels_N) / (present * num)", "num * present / len(labels_N)", WEIGHTED),
    Mutant("the loss isn't weighted", "models/classifier.py", "(self.class_weights_K[labels_B] * self.loss(", "(self.loss(", WEIGHTED),
    Mutant("the evaluated loss is weighted", "models/classifier.py", "            loss = F.cross_entropy(logits_BK, labels_B)\n", "            loss = F.cross_entropy(logits_BK, labels_B, weight=self.class_weights_K)\n", WEIGHTED),
    Mutant("balanced accuracy is the plain one", "models/tally.py", "float((right_K[there_K] / images_K[there_K]).mean())", "float(right_K.sum() / images_K.sum())", BALANCED),
    Mutant("top-5 accuracy takes four guesses", "models/tally.py", "logits_BK.topk(5)", "logits_BK.topk(4)", BALANCED),
    Mutant("counts of classes are never reset", "models/tally.py", "counts, self._counts = self._counts, None", "counts = self._counts", BALANCED),
    Mutant("a full tally forgets a bad loss", "models/tally.py", "self._since_bad += len(losses)", "self._since_bad = None", "models/test_tally.py::test_any_number_of_batches_waits_for_a_reading"),
    Mutant("the hint leaves a last batch of one", "run/advice.py", "if num_train % size != 1)", "if size)", "run/test_uneven_classes.py::test_the_hint_gives_a_small_set_enough_steps"),
    # Checkpoints.
    Mutant("no fsync of a checkpoint", "callbacks/checkpoints.py", "os.fsync(file.fileno())", "file.fileno()", ON_DISK),
    Mutant("renamed before the fsync", "callbacks/checkpoints.py", "                os.fsync(file.fileno())\n", "                partial.replace(target)\n                os.fsync(file.fileno())\n                partial.hardlink_to(target)\n", ON_DISK),
    Mutant("no fsync of the folder", "callbacks/checkpoints.py", "os.fsync(folder)", "os.fstat(folder)", ON_DISK),
    Mutant("a checkpoint written in place", "callbacks/checkpoints.py", 'target.with_suffix(".partial")', "target", WHOLE),
    Mutant("no previous checkpoint", "callbacks/checkpoints.py", "target.replace(target.with_name(PREVIOUS))", "target.unlink()", ON_DISK),
    Mutant("a half is left behind", "callbacks/checkpoints.py", "partial.unlink(missing_ok=True)", "pass", WHOLE),
    Mutant("curves reach the disk later", "callbacks/checkpoints.py", "logger.save()", "logger.name", "run/test_logger.py::test_the_curves_are_on_the_disk_before_a_checkpoint_counts_them"),
    Mutant("every_steps is one late", "callbacks/checkpoints.py", "% self.every_steps == 0", "% self.every_steps == 1", "callbacks/test_checkpoints.py::test_checkpoints_are_written_as_often_as_asked"),
    Mutant("every_minutes are hours", "callbacks/checkpoints.py", "60 * self.every_minutes", "3600 * self.every_minutes", "callbacks/test_checkpoints.py::test_checkpoints_are_written_as_often_as_asked"),
    Mutant("a checkpoint before an evaluation", "callbacks/checkpoints.py", "if not stepped or trainer.should_stop or evaluates_after(trainer, batch_idx)", "if not stepped or trainer.should_stop", f"{RESUMED}[1-trainer.eval_images=64]"),
    Mutant("a checkpoint in mid-accumulation", "callbacks/checkpoints.py", "if not stepped or trainer.should_stop", "if trainer.should_stop", f"{RESUMED}[2-trainer.accumulate_grad_batches=2]"),
    Mutant("a damaged checkpoint is resumed", "run/restore.py", "last.is_file() and is_whole(last)", "last.is_file()", "run/test_resume.py::test_a_damaged_last_checkpoint_falls_back_to_the_one_before_and_says_so"),
    Mutant("checksums aren't read", "models/weights.py", "return archive.testzip() is None", "return bool(archive.namelist())", "run/test_restore.py::test_a_flipped_bit_is_one_line_and_never_a_wrong_score"),
    Mutant("a pickle is run", "models/weights.py", 'map_location="cpu", weights_only=True', 'map_location="cpu", weights_only=False', "run/test_restore.py::test_a_pickle_is_never_run"),
    Mutant("a restored model drops", "run/restore.py", "return model.eval()", "return model", "run/test_restore.py::test_a_run_folder_gives_its_val_best_weights_in_evaluation_mode"),
    # Resuming.
    Mutant("dropout draws anew after a resume", "callbacks/random_state.py", 'torch.set_rng_state(self.to_restore["cpu"])', "pass", f"{RESUMED}[1-plain]"),
    Mutant("Python draws anew after a resume", "callbacks/random_state.py", 'random.setstate(self.to_restore["python"])', "pass", "run/test_resume.py::test_pythons_and_numpys_random_numbers_go_on_too_and_an_edited_file_is_said"),
    Mutant("curves keep what is taken again", "run/logger.py", "            os.truncate(path, sizes[name])", "            pass", DIED),
    Mutant("a resume begins its epoch again", "data/loader.py", '= state["batches"] * (self.batch_size or 1)', "= 0", f"{RESUMED}[10-plain]"),
    Mutant("images seen begin at 0", "models/classifier.py", 'self.images_seen = saved.get("images_seen", 0)', "self.images_seen = 0", f"{RESUMED}[10-plain]"),
    Mutant("the epoch's metrics begin at 0", "models/classifier.py", 'Tally(**saved.get("tally", {}))', "Tally()", f"{RESUMED}[10-plain]"),
    Mutant("the grid begins at 0", "callbacks/eval_grid.py", "self._cell = self._cell_at(self._images_seen(pl_module))", "self._cell = 0", f"{RESUMED}[3-trainer.eval_images=100+trainer.accumulate_grad_batches=2]"),
    # Averaged weights.
    Mutant("EMA's weight inverted", "callbacks/averaging.py", "averaged.lerp(current, 1 - (", "averaged.lerp(current, (", EMA),
    Mutant("EMA without warm-up", "callbacks/averaging.py", "((1 + count) / (10 + count)).clamp(max=decay)", "torch.full_like(count, decay)", EMA),
    Mutant("EMA's warm-up one late", "callbacks/averaging.py", "((1 + count) / (10 + count))", "(count / (9 + count))", EMA),
    Mutant("EMA never reaches its decay", "callbacks/averaging.py", ".clamp(max=decay)", "", EMA),
    Mutant("batch norm's count averaged", "callbacks/averaging.py", "if not averaged.is_floating_point():", "if False:", "run/test_resume.py::test_averaged_weights_go_with_batch_norm"),
    # The draws of the augmentation.
    Mutant("augmentation ignores the seed", "data/module.py", "draw = (self.seed, ", "draw = (0, ", DRAWS),
    Mutant("augmentation ignores the epoch", "data/module.py", "self.trainer.current_epoch, loop", "0, loop", DRAWS),
    Mutant("augmentation ignores the batch", "data/module.py", "loop.batch_progress.current.ready, ", "0, ", DRAWS),
    Mutant("augmentation in validation", "data/module.py", " or not self.trainer.training:", ":", DRAWS),
    Mutant("seed 0, epoch 1 is seed 1, epoch 0", "data/augment.py", "seed * 1_000_003 + number + 1", "seed + number + 1", "data/test_augment.py::test_no_two_batches_of_small_numbers_have_the_same_draws"),
    Mutant("one crop for the batch", "data/augment.py", "2 * pad + 1, (num, 2), generator=generator)", "2 * pad + 1, (1, 2), generator=generator).expand(num, 2)", "data/test_module.py::test_augmentation_draws_for_each_image_and_repeats_for_the_same_draw"),
    Mutant("augmentations in another order", "data/augment.py", "for name in names:", "for name in sorted(names):", "data/test_augment.py::test_augmentations_come_in_the_order_typed"),
    Mutant("other draws than before", "data/augment.py", "    seed = 0\n", "    seed = 1\n", "data/test_augment.py::test_the_draws_stay_what_they_were"),
    # Its distribution.
    Mutant("rotation by ±150°", "data/augment.py", "MAX_ROTATION = 15.0", "MAX_ROTATION = 150.0", TURNS),
    Mutant("rotation to one side", "data/augment.py", "draws_B3[:, 0] * math", "draws_B3[:, 0].abs() * math", TURNS),
    Mutant("angles near 0", "data/augment.py", "draws_B3[:, 0] * math", "draws_B3[:, 0] ** 3 * math", TURNS),
    Mutant("a shift of a twentieth", "data/augment.py", "MAX_SHIFT = 0.1 ", "MAX_SHIFT = 0.05 ", TURNS),
    Mutant("a crop never at the far end", "data/augment.py", "torch.randint(0, 2 * pad + 1,", "torch.randint(0, 2 * pad,", EVEN),
    Mutant("a crop along the diagonal", "data/augment.py", "columns_BW = offsets_B2[:, 1:]", "columns_BW = offsets_B2[:, :1]", EVEN),
    Mutant("a crop mostly in the middle", "data/augment.py", "offsets_B2 = torch.randint(0, 2 * pad + 1, (num, 2), generator=generator)", "offsets_B2 = (torch.randint(0, 2 * pad + 1, (num, 2, 2), generator=generator).sum(2) // 2)", EVEN),
    Mutant("a flip of every third", "data/augment.py", "generator=generator) < 0.5", "generator=generator) < 0.45", EVEN),
    Mutant("cutouts near the corner", "data/augment.py", "torch.rand(num, 2, generator=generator) * torch", "torch.rand(num, 2, generator=generator) ** 1.2 * torch", EVEN),
    Mutant("a crop by a seventh", "data/augment.py", "CROP_PADDING = 8", "CROP_PADDING = 7", "data/test_augment.py::test_the_draws_stay_what_they_were"),
    Mutant("small images aren't cropped", "data/augment.py", "max(1, min(images_BCHW.shape[2:]) // CROP_PADDING)", "min(images_BCHW.shape[2:]) // CROP_PADDING", "data/test_augment.py::test_the_smallest_images_are_moved_and_cut_by_a_pixel"),
    Mutant("small images aren't cut", "data/augment.py", "max(1, min(height, width) // CUTOUT_SIDE)", "min(height, width) // CUTOUT_SIDE", "data/test_augment.py::test_the_smallest_images_are_moved_and_cut_by_a_pixel"),
    # Its geometry.
    Mutant("a replicated border", "data/augment.py", "padding_mode=outside, align", 'padding_mode="border", align', f"{TURNS}; {AFFINE}"),
    Mutant("the nearest pixel", "data/augment.py", "padding_mode=outside, align", 'padding_mode=outside, mode="nearest", align', AFFINE),
    Mutant("a grid of corners", "data/augment.py", "padding_mode=outside, align_corners=False", "padding_mode=outside, align_corners=True", AFFINE),
    Mutant("a turn shears an oblong", "data/augment.py", "-sin_B * height / width", "-sin_B", f"{TURNS}; {AFFINE}"),
    Mutant("a turn is a mirroring", "data/augment.py", "[sin_B * width / height, cos_B", "[-sin_B * width / height, cos_B", AFFINE),
    Mutant("pixels rounded down", "data/augment.py", "sampled.round_()", "sampled.floor_()", AFFINE),
    Mutant("flipped upside down", "data/augment.py", "images_BCHW.flip(3)", "images_BCHW.flip(2)", "data/test_augment.py::test_crop_flip_and_cutout_are_torchvisions"),
    Mutant("cropped from a mirrored border", "data/augment.py", "F.pad(images_BCHW, (pad, pad, pad, pad))", 'F.pad(images_BCHW.float(), (pad, pad, pad, pad), mode="reflect").byte()', "data/test_augment.py::test_crop_flip_and_cutout_are_torchvisions"),
    Mutant("a cutout in one channel", "data/augment.py", "inside_BW[:, None, :])[:, None], 0)", "inside_BW[:, None, :])[:, None] & (torch.arange(images_BCHW.shape[1]) == 0)[:, None, None], 0)", "data/test_augment.py::test_crop_flip_and_cutout_are_torchvisions"),
    Mutant("a cutout of half the side", "data/augment.py", "CUTOUT_SIDE = 4", "CUTOUT_SIDE = 2", "data/test_module.py::test_flip_mirrors_crop_shifts_and_cutout_blackens"),
    Mutant("a cutout never at the edge", "data/augment.py", "centre_B2.floor().long() - side // 2", "(centre_B2.floor().long() - side // 2).clamp_min(0)", "data/test_augment.py::test_every_window_every_mirroring_and_every_place_of_the_square_occur"),
    # The later augmentations, against torchvision's.
    Mutant("no zoom", "data/augment.py", "1 + MAX_ZOOM * draws_B4[:, 3]", "1 + 0 * draws_B4[:, 3]", f"{AFFINE}; {ZOOMS}"),
    Mutant("a zoom by a fifth", "data/augment.py", "MAX_ZOOM = 0.1", "MAX_ZOOM = 0.2", ZOOMS),
    Mutant("a zoom shrinks only", "data/augment.py", "MAX_ZOOM * draws_B4[:, 3]", "MAX_ZOOM * -draws_B4[:, 3].abs()", ZOOMS),
    Mutant("a shift repeats the edge", "data/augment.py", "(side - 1) - ((side - 1) - indices.abs()).abs()", "indices.clamp(0, side - 1)", SHIFTS),
    Mutant("a shift by an eighth", "data/augment.py", "REFLECTED_SHIFT = 16", "REFLECTED_SHIFT = 8", SHIFTS),
    Mutant("displacements twice as large", "data/augment.py", "ELASTIC_SHIFT = 0.04", "ELASTIC_SHIFT = 0.08", WAVES),
    Mutant("displacements half as smooth", "data/augment.py", "ELASTIC_SMOOTHNESS = 0.18", "ELASTIC_SMOOTHNESS = 0.09", WAVES),
    Mutant("smaller displacements at the border", "data/augment.py", "weights / weights.square().sum(1, keepdim=True).sqrt()", "weights / weights.square().sum(1).max().sqrt()", WAVES),
    Mutant("one field for both directions", "data/augment.py", "torch.randn(num, 2, height, width, generator=generator)", "torch.randn(num, 1, height, width, generator=generator).expand(num, 2, height, width)", WAVES),
    Mutant("trivial's strengths end early", "data/augment.py", "torch.randint(0, MAGNITUDES, (num,)", "torch.randint(0, MAGNITUDES - 1, (num,)", TRIVIAL),
    Mutant("trivial without the last operation", "data/augment.py", "torch.randint(0, len(operations), (num,)", "torch.randint(0, len(operations) - 1, (num,)", TRIVIAL),
    Mutant("trivial in one direction", "data/augment.py", "torch.randint(0, 2, (num,), generator=generator) * 2 - 1", "torch.randint(0, 1, (num,), generator=generator) * 2 + 1", TRIVIAL),
    Mutant("erased always", "data/augment.py", "generator=generator) < ERASED_SHARE", "generator=generator) < 1", ERASED),
    Mutant("erased near the corner", "data/augment.py", "torch.rand(num, 2, generator=generator) * places_B2", "torch.rand(num, 2, generator=generator) ** 2 * places_B2", ERASED),
    Mutant("erased areas by the side", "data/augment.py", "* math.prod(sides)", "* max(sides) ** 2", ERASED),
    Mutant("erased ratios not by their logarithm", "data/augment.py", "uniform_(*map(math.log, ERASED_RATIO), generator=generator).exp()", "uniform_(*ERASED_RATIO, generator=generator)", ERASED),
    Mutant("trivial exchanges images", "data/augment.py", "function(images_BCHW[rows], strengths", "function(images_BCHW[rows.flip(0)], strengths", ITSELF),
    Mutant("trivial changes the first images", "data/augment.py", "function(images_BCHW[rows], strengths", "function(images_BCHW[: len(rows)], strengths", ITSELF),
    Mutant("trivial draws levels first", "data/augment.py", "    level_B = torch.randint(0, MAGNITUDES, (num,), generator=generator)\n    sign_B = torch.randint(0, 2, (num,), generator=generator) * 2 - 1\n", "    sign_B = torch.randint(0, 2, (num,), generator=generator) * 2 - 1\n    level_B = torch.randint(0, MAGNITUDES, (num,), generator=generator)\n", "data/test_augment.py::test_the_draws_of_float_augmentations_stay_what_they_were_but_for_a_level"),
    Mutant("erased over a whole side", "data/augment.py", "sides_BT2 < torch.tensor(sides)", "sides_BT2 <= torch.tensor(sides)", "data/test_augment.py::test_a_rectangle_that_would_fill_a_side_is_drawn_again"),
    # Views of the test, and the networks' shapes.
    Mutant("views upside down", "models/views.py", "pixels_BCHW.flip(3)", "pixels_BCHW.flip(2)", VIEWED),
    Mutant("views shifted one way", "models/views.py", "padded_BCHW[:, :, 2:, 2:]", "padded_BCHW[:, :, :-2, :-2]", VIEWED),
    Mutant("the most confident view", "models/views.py", ".mean(0)", ".amax(0)", VIEWED),
    Mutant("dirac of three channels", "models/vgg16.py", "layer.weight.data[: layer.in_channels]", "layer.weight.data[:3]", "models/test_models.py::test_dirac_filters_copy_their_channels_through_all_thirteen_convolutions"),
    Mutant("pooled after each convolution", "models/mnist_cnn.py", "if number == convs_per_block - 1 else", "if True else", "models/test_models.py::test_a_deeper_mnist_cnn_is_what_its_keys_say"),
    # Splits, order and normalisation.
    Mutant("validation images are trained on", "data/split.py", "    left[taken] = False\n", "", APART),
    Mutant("a part of all images is trained on", "data/module.py", "train_rows[split.class_balanced(labels[train_rows], self.train_size)]", "split.class_balanced(labels, self.train_size)", APART),
    Mutant("another split", "data/split.py", "FIXED_SEED = 20_240_229", "FIXED_SEED = 20_240_228", APART),
    Mutant("a class's share is a class's number", "data/split.py", "(ranks_N + 0.5) / sizes_N", "(ranks_N + 0.5)", STRATIFIED),
    Mutant("the first images of each class", "data/split.py", "torch.randperm(len(rows), generator=generator)", "torch.arange(len(rows))", APART),
    Mutant("official validation is the first images", "data/module.py", "torch.arange(len(labels) - self.num_val, len(labels))", "torch.arange(self.num_val)", "data/test_module.py::test_official_validation_is_the_last_5000_training_images"),
    Mutant("curves of training on validation images", "data/module.py", "self.train_eval = Images(images, labels, eval_rows)", "self.train_eval = self.val", APART),
    Mutant("drop_last in the test", "data/module.py", "drop_last=self.drop_last and train", "drop_last=self.drop_last", "data/test_module.py::test_drop_last_leaves_out_training_images_only"),
    Mutant("each seed the same order", "data/module.py", "EpochOrder(images, self.seed)", "EpochOrder(images, 0)", ORDER),
    Mutant("a pack's shards begin one image late", "data/shards.py", 'np.searchsorted(self.starts, row, "right")', 'np.searchsorted(self.starts, row, "left")', PACKED),
    Mutant("a pack's checksums are not compared", "data/shards.py", 'if zlib.crc32(buffer) != entry["crc"]:', "if False:", CHANGED_BYTE),
    Mutant("a pack's statistics count the validation images", "data/packing.py", 'split == "train" and facts.mean is None', 'split != "test" and facts.mean is None', PACKED),
    Mutant("a stopped packing forgets the pixels that it counted", "data/packing.py", "progress.counts = counted.tolist()", "progress.counts = []", STOPPED_PACKING),
    Mutant("each epoch the same parts", "data/encoded.py", "first = self.epoch * len(self.data_source)", "first = 0", PARTS),
    Mutant("two processes see the same parts in each epoch", "data/encoded.py", "first = self.epoch * len(self.dataset)", "first = 0 * len(self.dataset)", "data/test_distributed.py::test_two_processes_see_other_parts_of_the_images_in_each_epoch"),
    Mutant("each seed the same parts", "data/encoded.py", "mixed((self.seed, epoch, place))", "mixed((epoch, place))", PARTS),
    Mutant("the middle is cut out of a smaller picture", "data/encoded.py", "round(min(size) * RESIZED / CROPPED)", "min(size)", MIDDLE),
    Mutant("small parts are as likely as large ones are rare", "data/augment.py", "(0.08, 1.0), (3 / 4, 4 / 3), 10", "(0.25, 1.0), (3 / 4, 4 / 3), 10", WINDOWS),
    Mutant("each epoch the same order", "data/loader.py", "self.seed * 1_000_003 + self.epoch", "self.seed * 1_000_003", ORDER),
    Mutant("an epoch's order is the next seed's", "data/loader.py", "self.seed * 1_000_003 + self.epoch", "self.seed + self.epoch", ORDER),
    Mutant("normalised by validation images too", "data/module.py", "channel_statistics(images, train_rows)", "channel_statistics(images, torch.arange(len(labels)))", NORMALISED),
    Mutant("the deviation is the variance", "data/statistics.py", ".clamp_min(0).sqrt()", ".clamp_min(0)", NORMALISED),
    Mutant("statistics stay behind", "models/classifier.py", "self.pixels.set_statistics(data.mean, data.std)", "pass", NORMALISED),
    Mutant("pixels in 256ths", "models/pixels.py", ".div_(255)", ".div_(256)", PIXELS),
    Mutant("padded before it is normalised by grey", "models/pixels.py", "F.pad(images_BCHW, self.padding)", "F.pad(images_BCHW, self.padding, value=128)", PIXELS),
    # Metrics.
    Mutant("an average of batches", "models/tally.py", "float(losses @ counts)", "float(losses.mean() * counts.sum())", METRICS),
    Mutant("the second best class counts", "models/tally.py", "logits_BK.detach().argmax(1)", "logits_BK.detach().topk(2).indices[:, 1]", METRICS),
    Mutant("an epoch's sums go on", "models/tally.py", "sums, self.epoch, self.interval = self.epoch, [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]", "sums = self.epoch", "models/test_tally.py::test_the_sums_of_an_interval_and_of_an_epoch_begin_again"),
    Mutant("an interval's sums go on", "models/tally.py", "sums, self.interval = self.interval, [0.0, 0.0, 0.0]", "sums = self.interval", "models/test_tally.py::test_the_sums_of_an_interval_and_of_an_epoch_begin_again"),
    Mutant("the last loss that isn't finite", "models/tally.py", "len(losses) - 1 - bad[0]", "len(losses) - 1 - bad[-1]", "models/test_classifier.py::test_the_first_loss_that_is_not_finite_is_found"),
    Mutant("val and train_eval are swapped", "models/classifier.py", '("val", "train_eval")[dataloader_idx]', '("train_eval", "val")[dataloader_idx]', EMA),
    Mutant("evaluated in training mode", "models/classifier.py", "        self.eval()\n", "", "models/test_classifier.py::test_parts_that_do_not_train_stay_so"),
    Mutant("images seen count batches", "models/classifier.py", "self.images_seen += len(batch[1])", "self.images_seen += 1", GRID),
    # Loss, optimizer and schedule.
    Mutant("no label smoothing", "models/optim.py", "label_smoothing=optim.label_smoothing", "label_smoothing=0.0", SMOOTHED),
    Mutant("Adam for AdamW", "models/optim.py", 'if optim.name == "adam" else torch.optim.AdamW', 'if optim.name == "adam" else torch.optim.Adam', ADAM),
    Mutant("Adam without decay", "models/optim.py", "(beta1, beta2), weight_decay=decay", "(beta1, beta2), weight_decay=0.0", ADAM),
    Mutant("betas the wrong way round", "models/optim.py", "beta1, beta2 = map", "beta2, beta1 = map", ADAM),
    Mutant("SGD without decay", "models/optim.py", "optim.momentum, weight_decay=decay", "optim.momentum, weight_decay=0.0", SGD),
    Mutant("biases decay all the same", "models/optim.py", '"weight_decay": 0.0', '"weight_decay": decay', VECTORS),
    Mutant("no Nesterov", "models/optim.py", "nesterov=optim.nesterov", "nesterov=False", SGD),
    Mutant("onecycle cycles the momentum", "models/optim.py", "cycle_momentum=False", "cycle_momentum=True", "settings/test_keys.py::test_momentum_and_betas_reach_the_optimizer_under_every_schedule"),
    Mutant("onecycle peaks early", "models/optim.py", "ONE_CYCLE_WARMUP = 0.3", "ONE_CYCLE_WARMUP = 0.2", RATES),
    Mutant("cosine ends beyond the end", "models/optim.py", "CosineAnnealingLR(optimizer, num_steps - warmup)", "CosineAnnealingLR(optimizer, num_steps)", RATES),
    Mutant("step by a half", "models/optim.py", "STEP_DECAY, STEP_PARTS = 0.1, 3", "STEP_DECAY, STEP_PARTS = 0.5, 3", RATES),
    Mutant("a ramp from a third", "models/optim.py", "start_factor=1 / (warmup + 1)", "start_factor=1 / 3", RATES),
    Mutant("a last step beyond the schedule", "models/length.py", "math.ceil(batches / accumulation(trainer, start))", "math.floor(batches / accumulation(trainer, start))", f"{ENDS}[module-{{'accumulate_grad_batches': 4}}-8]"),
    Mutant("max_steps don't shorten the schedule", "models/length.py", "min(steps, most)", "steps", f"{ENDS}[module-{{'max_steps': 17}}-17]"),
    Mutant("limits round up", "models/length.py", "int(batches * limit)", "math.ceil(batches * limit)", f"{ENDS}[module-{{'limit_train_batches': 0.5}}-12]"),
    Mutant("the rate by the square root is linear", "settings/keys.py", '"sqrt": math.sqrt', '"sqrt": lambda ratio: ratio', "models/test_classifier.py::test_the_learning_rate_rules_agree_at_the_reference_batch"),
    Mutant("equal steps round down", "run/train.py", "epochs = math.ceil(steps / math.ceil(", "epochs = math.floor(steps / math.ceil(", EQUAL_STEPS),
    # The times of evaluations, the clock, and the target.
    Mutant("the clock runs through evaluations", "callbacks/throughput.py", "None if evaluates_after(trainer, batch_idx) else now, 0", "now, 0", CLOCK),
    Mutant("images of the whole run over an interval", "callbacks/throughput.py", "self._images / max", "self.num_images / max", CLOCK),
    Mutant("the grid counts batches before", "callbacks/eval_grid.py", "self._images_seen(pl_module) + len(batch[1]) * trainer.world_size", "self._images_seen(pl_module)", GRID),
    Mutant("evaluated at each step", "callbacks/eval_grid.py", "cell > self._cell or", "cell >= self._cell or", GRID),
    Mutant("a target at the nearer reading", "target.py", "(value - before[0]) / (reading - before[0])", "round((value - before[0]) / (reading - before[0]))", BETWEEN),
    Mutant("a target between the wrong readings", "target.py", "(value - before[0]) / (reading - before[0])", "(reading - value) / (reading - before[0])", BETWEEN),
    Mutant("a target read from the first reading on", "target.py", "        before = reading, here\n", "        before = before or (reading, here)\n", BETWEEN),
    Mutant("a target must be surpassed", "target.py", "if sign * (reading - value) >= 0:\n            return here", "if sign * (reading - value) > 0:\n            return here", "test_target.py::test_an_accuracy_rises_to_its_target_and_a_loss_falls_to_it"),
    Mutant("a loss rises to its target", "target.py", 'return metric.endswith("loss")', "return False", "test_target.py::test_an_accuracy_rises_to_its_target_and_a_loss_falls_to_it"),
    Mutant("a target that some run has at once", "target.py", "else just_above(max(first))", "else just_above(min(first))", "test_target.py::test_the_chosen_target_needs_ten_readings_of_every_curve"),
    # The noise scale and the critical batch size.
    Mutant("a biased |G|²", "callbacks/noise_scale.py", "(large * large_squared - small * small_squared) / (large - small)", "large_squared", UNBIASED),
    Mutant("a biased trace", "callbacks/noise_scale.py", "(1 / small - 1 / large)", "(1 / small)", UNBIASED),
    Mutant("sums of batches for their mean", "callbacks/noise_scale.py", "small * num, small_squared / num", "small * num, small_squared", UNBIASED),
    Mutant("each reading replaces the one before", "callbacks/noise_scale.py", "self.trace + trace, self.grad_squared + grad_squared", "trace, grad_squared", READINGS),
    Mutant("read after every evaluation", "callbacks/noise_scale.py", "self.num_evaluations.bit_count() == 1", "True", READINGS),
    Mutant("pieces of a batch count alike", "callbacks/noise_scale.py", "* (len(labels) / len(labels_B))", "* 1.0", "callbacks/test_noise_scale.py::test_a_reading_is_the_same_in_pieces_of_any_size"),
    Mutant("read with dropout", "callbacks/noise_scale.py", "with pl_module.evaluating(), torch.enable_grad():", "with torch.enable_grad():", "callbacks/test_noise_scale.py::test_a_reading_is_the_same_in_pieces_of_any_size"),
    Mutant("the same images each time", "callbacks/noise_scale.py", "self.draw(SMALL * self.parts, trainer.global_step)", "self.draw(SMALL * self.parts, 0)", "callbacks/test_noise_scale.py::test_each_reading_is_of_other_images"),
    Mutant("an interval of 90 %", "sweep/critical_batch.py", "t.ppf(0.975, freedom)", "t.ppf(0.9, freedom)", f"{BEND}::test_its_interval_covers_the_truth_about_as_often_as_it_says"),
    Mutant("variances of both ends added", "sweep/critical_batch.py", "- 2 * covariance[0, 1]", "+ 2 * covariance[0, 1]", f"{BEND}::test_its_interval_covers_the_truth_about_as_often_as_it_says"),
    Mutant("a fit of steps, not of their logarithms", "sweep/critical_batch.py", "np.log(s_min + e_min / B) - np.log(S)", "s_min + e_min / B - S", f"{BEND}::test_the_known_answer_is_found_in_noise"),
    Mutant("two points make a bend", "sweep/critical_batch.py", "FEWEST_SIZES = 3", "FEWEST_SIZES = 2", f"{BEND}::test_two_sizes_are_too_few"),
    # Intervals.
    Mutant("an accuracy's interval of 90 %", "run/results.py", "Z_95 = 1.959964", "Z_95 = 1.644854", WILSON),
    Mutant("Wald's interval", "run/results.py", "+ z2 / (4 * num**2)", "", WILSON),
    Mutant("the most probable mistakes first", "run/results.py", "probability_N[wrong].argsort(stable=True)", "probability_N[wrong].argsort(stable=True, descending=True)", WILSON),
    Mutant("few runs taken for many", "claims/statistics.py", "stats.t.ppf(UPPER, n - 1) if n", "stats.norm.ppf(UPPER) if n", COVERS),
    Mutant("a claim's interval of 95 %", "claims/statistics.py", "LEVEL = 0.99", "LEVEL = 0.95", COVERS),
    Mutant("the test images' luck left out", "claims/statistics.py", "if num_images == 1 else", "if num_images else", "claims/test_statements.py::test_the_luck_of_the_test_images_widens_the_interval"),
    Mutant("rare answers taken for never", "claims/statistics.py", "FEW = 40", "FEW = 0", "claims/test_statements.py::test_outcomes_that_all_agree_still_leave_what_no_image_showed"),
    Mutant("a grid widens one side", "claims/statistics.py", "mean - half - grid", "mean - half", "claims/test_statements.py::test_a_grid_widens_both_sides_by_a_step"),
    # Verdicts.
    Mutant("an effect's mean is enough", "claims/statements.py", "if effect.low > margin:\n            verdict, so = HOLDS", "if effect.mean > margin:\n            verdict, so = HOLDS", "claims/test_simulated.py::test_an_effect_that_is_no_larger_than_the_margin_holds_in_at_most_one_of_a_hundred"),
    Mutant("noise refutes an effect", "claims/statements.py", "elif effect.high < margin:", "elif effect.low < margin:", "claims/test_simulated.py::test_an_effect_above_the_margin_is_refuted_in_at_most_one_of_a_hundred"),
    Mutant("half an interval is equal", "claims/statements.py", "if -margin < effect.low and effect.high < margin:", "if -margin < effect.mean < margin:", "claims/test_simulated.py::test_different_arms_are_called_equal_in_at_most_one_of_a_hundred"),
    Mutant("a relative margin below zero", "claims/statements.py", "worth * np.sign(less.mean(1, keepdims=True)) * less", "worth * less", "claims/test_statements.py::test_a_relative_margin_is_a_share_of_each_seeds_value"),
    Mutant("undecided taken for refuted", "claims/verdict.py", "role == STATED and finding.verdict == FAILS", "role == STATED and finding.verdict != HOLDS", CORE),
    Mutant("a failed check overlooked", "claims/verdict.py", "if checks & {FAILS, CHECK_FAILED}:", "if checks & {FAILS}:", CORE),
    Mutant("a check repeated on the same seeds", "claims/verdict.py", "(third, (first + second) / 2)", "(third, first)", "claims/test_verdict.py::test_identical_settings_that_differ_once_are_measured_again_and_fail_the_check_if_they_differ_twice"),
    Mutant("no further seeds for the check", "claims/bench.py", "(3 if found and", "(2 if found and", "claims/test_bench.py::test_the_cores_lesser_arm_is_measured_with_n_other_seeds_and_again_if_these_differ"),
    Mutant("a statement that holds when made false", "claims/guards.py", "if not right and verdict", "if False and verdict", "claims/test_guards.py::test_what_holds_wrongly_is_named"),
    Mutant("exchanged arms that hold", "claims/verdict.py", "replace(statement, more=statement.less, less=statement.more)", "replace(statement)", "claims/test_guards.py::test_what_holds_wrongly_is_named"),
    # Records and locks.
    Mutant("fsync of a record before all is written", "run/record.py", "        file.flush()\n", "", RECORD),
    Mutant("no fsync of a record", "run/record.py", "        os.fsync(file.fileno())\n", "", RECORD),
    Mutant("a record written in place", "run/record.py", 'path.with_suffix(".partial")', "path", RECORD),
    Mutant("NaN in a record", "run/record.py", "not math.isfinite(v) else v", "False else v", RECORD),
    Mutant("two processes run one run", "run/record.py", "        if not self.claim():\n            raise", "        if False:\n            raise", LOCKS),
    Mutant("a finished run keeps its lock", "run/record.py", "        self.release()\n", "", LOCKS),
    Mutant("nobody holds a lock", "sweep/standing.py", "        return True\n    lock.release()", "        return False\n    lock.release()", LOCKS),
    Mutant("a dead run is at work", "sweep/standing.py", '"interrupted" if status == "running" else', '"interrupted" if False else', LOCKS),
    Mutant("another's job is ended", "sweep/standing.py", "    if not record.claim():\n        return False\n", "    record.claim()\n", LOCKS),
    Mutant("failed jobs are left though a retry was asked for", "sweep/standing.py", "attempts(folder) != self.attempts", "True", LOCKS),
    Mutant("failed jobs are done again and again", "sweep/standing.py", "attempts(folder) != self.attempts", "False", LOCKS),
    Mutant("a run that had stopped early trains on", "run/begin.py", "trainer.should_stop |= bool(self.checkpoint and", "trainer.should_stop |= bool(False and", DIED),
    Mutant("the last epoch is not counted after a resume", "run/train.py", "        epochs.completed = epochs.processed", "        epochs.completed = epochs.completed", DIED),
    # The images and the code of a run.
    Mutant("the header's size forgets the orientation", "data/image_file.py", "if orientation(image, content) >= 5:", "if False:", "data/test_image_file.py::test_a_file_has_the_size_of_its_header_and_pils_own_pixels"),
    Mutant("a late orientation of a PNG is missed", "data/image_file.py", "(b\"eXIf\", b\"Raw", "(b\"Raw", "data/test_image_file.py::test_a_file_has_the_size_of_its_header_and_pils_own_pixels"),
    Mutant("a photograph is turned the other way", "data/image_file.py", "6: Image.Transpose.ROTATE_270", "6: Image.Transpose.ROTATE_90", "data/test_image_file.py::test_a_file_has_the_size_of_its_header_and_pils_own_pixels"),
    Mutant("greys are always 16 bits", "data/image_file.py", "max(255, 2 ** max(high, 0).bit_length() - 1)", "65_535", "data/test_image_file.py::test_the_bit_depth_that_the_values_use_decides_what_is_white"),
    Mutant("test images decide the greys, too", "data/folder.py", "if path not in tested]", "]", "data/test_folder.py::test_the_training_images_of_more_than_8_bits_decide_the_greys_of_all"),
    Mutant("each deep image has greys of its own", "data/folder.py", "self.content(path), self.facts.greys)", "self.content(path))", "data/test_folder.py::test_the_training_images_of_more_than_8_bits_decide_the_greys_of_all"),
    Mutant("evaluate reads greys by the other set", "commands/evaluate.py", "data.greys = model.greys", "pass", "commands/test_evaluate.py::test_other_greys_are_read_as_the_model_saw_its_own"),
    Mutant("a checkpoint's greys are left behind", "run/restore.py", "model.greys, model.sees_middle = greys, sees_middle", "model.sees_middle = sees_middle", "commands/test_evaluate.py::test_other_greys_are_read_as_the_model_saw_its_own"),
    Mutant("predict forgets the model's greys", "commands/predict.py", "mnist, model.greys, model.sees_middle)", "mnist, None, model.sees_middle)", "commands/test_evaluate.py::test_other_greys_are_read_as_the_model_saw_its_own"),
    Mutant("equal training images are taken", "data/module.py", "if len(rows) == 1 or any(", "if True or any(", "data/test_module.py::test_training_images_that_are_all_the_same_are_refused"),
    Mutant("other labels are the same set", "data/folder.py", "if listing.labels is not None:\n            names", "if False:\n            names", "data/test_labels_file.py::test_other_labels_are_another_set"),
    Mutant("the deal is turned around", "data/deal.py", "return share < TEST_SHARE", "return share > 1 - TEST_SHARE", "data/test_folder.py::test_one_in_ten_is_a_test_image_whatever_the_names"),
    Mutant("a run goes on with other images", "run/inputs.py", "if not images or recorded == images", "if True", "run/test_resume.py::test_a_run_does_not_go_on_with_other_images"),
    Mutant("an image that changed meanwhile is taken", "data/folder.py", "content_hash(content) != self.looks[path].digest", "False", "data/test_folder.py::test_an_image_that_changes_between_the_first_look_and_the_decoding_is_noticed"),
    Mutant("an oversized batch is a setting of its own", "sweep/runs.py", "if size > images", "if False", "sweep/test_groups.py::test_batch_sizes_above_the_training_images_are_one_setting"),
    Mutant("a failed run counts beside the one that made it good", "sweep/groups.py", "return len(one_a_seed(self.runs))", "return len(self.runs)", "sweep/test_groups.py::test_a_seed_is_one_however_often_it_was_run"),
    # Weights to start from, and which of them learn.
    Mutant("a frozen backbone's batch norm moves", "models/backbone.py", "module.training = not still", "module.training = True", FROZEN),
    Mutant("a frozen backbone learns", "models/backbone.py", "parameter.requires_grad_(not frozen)", "parameter.requires_grad_(True)", f"{FROZEN}; {ALONE}"),
    Mutant("the head learns alone for one epoch more", "models/classifier.py", "self.trainer.current_epoch < self.optim.head_epochs", "self.trainer.current_epoch <= self.optim.head_epochs", ALONE),
    Mutant("one rate for all layers under a cycle", "models/optim.py", "OneCycleLR(optimizer, rates,", "OneCycleLR(optimizer, rates[0],", "models/test_backbone.py::test_the_schedule_scales_both_rates"),
    Mutant("the data set's pixels for others' weights", "models/classifier.py", 'if stage == "fit" and self.weights_statistics is None and', 'if stage == "fit" and', "run/test_longer.py::test_the_weights_of_a_run_start_another_one_with_its_own_pixels"),
    Mutant("any file counts as the published one", "models/imagenet.py", "sha256(path).startswith(self.digest)", "bool(sha256(path))", "models/test_imagenet.py::test_a_damaged_file_is_never_used"),
    Mutant("other weights go on with a run", "run/restore.py", 'if weights != run["weights"]:', "if False:", "run/test_longer.py::test_a_resume_notices_another_file_of_weights"),
    Mutant("a schedule goes on for longer", "commands/train.py", "if longer and settings.optim.has_length:", "if False:", "run/test_longer.py::test_what_cant_train_longer_is_refused_in_one_line_and_stays_as_it_was"),
    # The conclusions of a report.
    Mutant("a setting that no other is told apart from is best", "sweep/answer.py", "c.settings[c.top] if c.some and c.beaten else None", "c.settings[c.top] if c.some else None", "sweep/test_answer.py::test_where_nothing_differs_no_setting_is_best"),
    Mutant("no Welch's test beside the pooled one", "sweep/compare.py", "np.maximum(np.minimum(1, factor * pooled), welch)", "np.minimum(1, factor * pooled)", "sweep/test_compare.py::test_settings_of_unlike_spread_are_told_apart_by_welchs_test_too"),
    Mutant("no adjustment for the lines of a page", "sweep/compare.py", "spread.page_factor(smallest, LEVEL)", "1.0", "sweep/test_compare.py::test_the_lines_of_a_page_are_adjusted_together"),
    Mutant("no adjustment for the pairs of a line", "sweep/spread.py", "holm(np.where(distance > 0, p, 1))", "np.where(distance > 0, p, 1)", "sweep/test_spread.py::test_equal_settings_are_rarely_told_apart"),
    Mutant("ties are certainty", "sweep/spread.py", "both_tied * 2.0 **", "0 * 2.0 **", "sweep/test_spread.py::test_ties_are_no_certainty"),
    Mutant("what is left of a setting is compared", "sweep/groups.py", 'run.status != "ok" and (', "False and (", "sweep/test_compare.py::test_what_is_left_of_a_setting_is_compared_with_nothing"),
    Mutant("a repeated seed counts twice", "sweep/groups.py", "run.folder if run.seed is None else said(run.seed)", "run.folder", "sweep/test_report.py::test_runs_of_the_same_setting_and_seed_are_counted_as_repeats"),
)  # fmt: skip
