
say() { printf 'soct: %s\n' "$*" >&2; }

# On the login node: one array of tasks per phase, each after the one before. A phase that ends badly does not keep
# the next one from its work: whatever was left undone is taken up there, as far as it can be.
submit() {
  local row name until array cpus memory time gpu job file before=""
  if ! command -v sbatch >/dev/null; then
    say "there is no sbatch here: run this on a machine that submits jobs to Slurm"
    exit 2
  fi
  if ! mkdir -p "$run/slurm" || ! printf '' >>"$run/slurm/jobs.tsv"; then
    say "the run folder cannot be written to: $run"
    exit 4
  fi
  file=$(own_path)
  for row in "${phases[@]}"; do
    read -r name until array cpus memory time gpu <<<"$row"
    local options=(--parsable --job-name="soct-$name" --nodes=1 --ntasks=1 --array="$array"
      --cpus-per-task="$cpus" --mem="$memory" --time="$time" "${requeue_option[@]}"
      --chdir="$run/slurm" --output="$name-%A_%a.log" --open-mode=append)
    [[ $gpu == - ]] || options+=(--gres="gpu:$gpu" "${gpu_options[@]}")
    [[ -z $before ]] || options+=(--dependency="afterany:$before")
    if ! job=$(sbatch "${options[@]}" "$script" "$name" "$file"); then
      say "sbatch refused the phase $name (its words are above)"
      [[ -z $before ]] || say "phases before it are in the queue; scancel them, or let them work"
      exit 1
    fi
    before=${job%%;*}
    printf '%s\t%s\t%s\t%s\n' "$(date -u +%Y-%m-%dT%H:%M:%S+00:00)" "$name" "$before" "$array" \
      >>"$run/slurm/jobs.tsv"
    printf 'submitted %-10s job %s, tasks %s, up to %s each\n' "$name" "$before" "$array" "$time"
  done
  printf 'how far it is:  soct status %q\n' "$run"
}

# Where this file lies, for whoever is to submit it again. A job gets a copy of it from Slurm, which knows the first.
own_path() {
  local file=$script
  if [[ -n ${SLURM_JOB_ID:-} && ${script##*/} == slurm_script ]]; then
    file=$(scontrol show job "$SLURM_JOB_ID" 2>/dev/null | sed -n 's/^ *Command=//p' | head -n 1)
  fi
  [[ -z $file ]] || realpath -- "$file" 2>/dev/null || printf '%s\n' "$file"
}

# On a node: one task of a phase. It takes units that no other task holds, until nothing is left for it.
work() {
  local row name until array cpus memory time gpu code marker
  for row in "${phases[@]}"; do
    read -r name until array cpus memory time gpu <<<"$row"
    [[ $name == "$1" ]] && break
  done
  if [[ $name != "$1" ]]; then
    say "there is no phase $1"
    exit 2
  fi
  if [[ ! -e $run/slurm/jobs.tsv ]]; then
    say "on $(hostname) the run folder is not the one that the job was submitted for: $run"
    say "It must lie on a file system that all nodes share, under the same path."
    exit 4
  fi
  # What soct names when it is stopped, rather than the command line of this task.
  SOCT_CONTINUE="bash $(printf '%q' "${2:-job.sbatch}")"
  export SOCT_CONTINUE
  cd "$here" 2>/dev/null || cd "$run" || exit 4
  prepare
  tell_end_of_job

  local soct=("${soct_command[@]}") machine=(--cpus "${SLURM_CPUS_PER_TASK:-$cpus}")
  if [[ $gpu == - ]]; then
    machine+=(--gpu off)
  else
    machine+=(--gpu "$gpu_use")
    [[ -z ${soct_command_gpu+set} ]] || soct=("${soct_command_gpu[@]}")
  fi
  if [[ ${soct[0]} == apptainer ]] && ! command -v apptainer >/dev/null; then
    soct[0]=singularity
  fi
  # A tenth of the job's memory is left to the system's own: Slurm counts the file cache, too.
  [[ -z ${SLURM_MEM_PER_NODE:-} ]] || machine+=(--memory "$((SLURM_MEM_PER_NODE * 9 / 10))MiB")
  local part=()
  [[ $until == - ]] || part=(--until "$until")

  marker="$run/slurm/.started-${SLURM_JOB_ID:-$$}"
  printf '' >"$marker"
  # scancel and the end of the time send SIGTERM to soct as well: this shell waits until it has written its records.
  terminated=no
  trap 'terminated=yes' TERM
  "${soct[@]}" run "${arguments[@]}" "${part[@]}" "${machine[@]}" --join
  code=$?
  [[ $code != 75 ]] || again "$marker"
  rm -f "$marker"
  exit "$code"
}

# Tell soct when Slurm will end the job, where Slurm itself does not: it stops a minute before, with exit code 75.
tell_end_of_job() {
  local end
  [[ -z ${SLURM_JOB_END_TIME:-} && -n ${SLURM_JOB_ID:-} ]] || return 0
  end=$(squeue --noheader --job="$SLURM_JOB_ID" --format=%e 2>/dev/null) || return 0
  end=$(date -d "$end" +%s 2>/dev/null) || return 0
  export SLURM_JOB_END_TIME=$end
}

# The time was too short for all the work: put the task into the queue again, unless that would lead nowhere.
again() {
  local task=${SLURM_JOB_ID:-}
  if [[ $terminated == yes ]]; then
    say "stopped by Slurm; submit the script again, and it continues"
    return
  fi
  if ! finished_something "$1"; then
    say "no unit was finished since this task started: the time limit is too short for the longest unit."
    say "Ask for more time (site file: slurm.time), and submit again; what is finished is kept."
    return
  fi
  [[ -z ${SLURM_ARRAY_JOB_ID:-} ]] || task="${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
  if [[ $requeue == yes && -n $task ]]; then
    say "out of time; task $task goes back into the queue"
    rm -f "$1"
    # Slurm ends all of a task that it takes back, this very scontrol before it could tell of its success.
    (trap '' TERM; exec scontrol requeue "$task") && exit 75
    say "Slurm does not let it"
  fi
  say "out of time; submit the script again, and it continues"
}

# Whether any task published the record of a unit, state/STEP/UNIT.json, since a file was made. What a task notes
# beside them when it starts (findings, the session, its claims and progress) is no finished work.
finished_something() {
  [[ -n $(cd "$run/state" 2>/dev/null && find . -mindepth 2 -maxdepth 2 -name '[!.]*.json' \
    ! -path './claims/*' ! -path './processes/*' ! -path './progress/*' -newer "$1" -print -quit) ]]
}

if [[ $# -eq 0 ]]; then submit; else work "$@"; fi
