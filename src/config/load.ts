import { findConfigFile, readConfigFile, showFile } from './config-file.ts'
import { checkConfig } from './check.ts'
import { readEnvironment, type Environment } from './environment.ts'
import { readFlags, readInstancesFlag, type Flags } from './flags.ts'
import { folderOfFile, normalise, type Draft } from './normalise.ts'
import { toSetupError, type Path, type Place, type Problem } from './problem.ts'
import { defaultModels, type Config } from './schema.ts'
import { findSetting, putAt, type Setting } from './setting.ts'
import { applySchema, type Finding } from './validate.ts'
import type { YamlText } from './yaml-text.ts'

type LoadOptions = {
  /** The file that `--config` names; without it `AUTOGLM_CONFIG`, then `autoglm.yaml` in `cwd`, may name or be one. */
  file?: string | undefined
  env: Environment
  flags: Flags
  cwd: string
}

const isMapping = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const listLength = (value: unknown) => (Array.isArray(value) ? value.length : 0)

/** Nobody named a model or a server, so the bundled model runs. With an upstream, it must not. */
function addDefaultModels(tree: Record<string, unknown>): void {
  const given = tree.models !== undefined && tree.models !== null
  if (!given && listLength(tree.upstreams ?? []) === 0) tree.models = structuredClone(defaultModels)
}

/** `--instances` is for one model: with several, the file must say which. */
function putInstances(tree: Record<string, unknown>, flags: Flags, settings: Setting[]): Problem[] {
  const given = readInstancesFlag(flags)
  if (given === null) return []
  if (listLength(tree.models) === 1) {
    const setting = { path: ['models', 0, 'instances'], ...given }
    if (putAt(tree, setting.path, setting.value)) settings.push(setting)
    return []
  }
  const what = `is for one model, and ${listLength(tree.models)} are configured; name it with --model, or set its instances in the file`
  return [{ place: given.place, path: [], shown: null, what }]
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    Object.values(value).forEach(deepFreeze)
  }
  return value
}

/**
 * The configuration: the file, under the environment, under the flags, with defaults for the rest; deeply frozen.
 * Throws one SetupError that lists every mistake with its place.
 */
export function loadConfig(options: LoadOptions): Config {
  const { env, flags, cwd } = options
  const file = findConfigFile(options)
  const environment = readEnvironment(env)
  const problems = [...environment.problems]

  let yaml: YamlText | null = null
  if (file !== null) {
    const result = readConfigFile(file, cwd)
    // Without the file, every other check would complain about what the file says.
    if ('problems' in result) throw toSetupError([...result.problems, ...problems])
    yaml = result.read
  }

  const written = yaml?.value ?? {}
  const settings = [...environment.settings, ...readFlags(flags)]
  const placeOf = (path: Path, at: 'key' | 'value'): Place => {
    const setting = findSetting(settings, path)
    if (setting) return setting.place
    if (yaml === null || file === null) return { kind: 'nowhere' }
    return { kind: 'file', file: showFile(file, cwd), ...yaml.locate(path, at) }
  }
  const toProblem = ({ path, at, shown, what }: Finding): Problem => {
    const place = placeOf(path, at)
    const exact = findSetting(settings, path)?.path.length === path.length
    // A flag that made a whole entry is shown by its name alone where a part of the entry is at fault.
    const visible =
      place.kind === 'environment' || place.kind === 'flag'
        ? { ...place, value: exact ? place.value : null }
        : place
    return { place: visible, path, shown, what }
  }

  const tree = isMapping(written) ? structuredClone(written) : null
  if (tree === null) {
    throw toSetupError([...applySchema(written).findings.map(toProblem), ...problems])
  }
  for (const { path, value } of settings) putAt(tree, path, structuredClone(value))
  addDefaultModels(tree)
  problems.push(...putInstances(tree, flags, settings))

  const { value, findings } = applySchema(tree)
  problems.push(...findings.map(toProblem))
  if (problems.length > 0) throw toSetupError(problems)

  const draft = value as Draft
  const crossed = checkConfig(draft, tree, env)
  if (crossed.length > 0) throw toSetupError(crossed.map(toProblem))

  const isFromFile = (path: Path) => file !== null && placeOf(path, 'value').kind === 'file'
  const folderOf = (path: Path) => (file !== null && isFromFile(path) ? folderOfFile(file) : cwd)
  return deepFreeze(normalise(draft, folderOf))
}
