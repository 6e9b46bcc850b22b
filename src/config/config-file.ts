import { readFileSync, statSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { SetupError } from '../core/errors.ts'
import type { Problem } from './problem.ts'
import { parseYaml, type YamlText } from './yaml-text.ts'

const defaultFileNames = ['autoglm.yaml', 'autoglm.yml'] as const

/** A configuration is read by people; what is larger is some other file. */
const fileBytesMax = 1024 * 1024

type FileQuery = {
  /** The file that the command line names. */
  file?: string | undefined
  env: Readonly<Record<string, string | undefined>>
  cwd: string
}

const isFile = (path: string) => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false

/**
 * The absolute path of the configuration file: the one named by the command line, or by `AUTOGLM_CONFIG`, or
 * `autoglm.yaml` in the current folder. Null when none is named and none is there: everything has a default.
 */
export function findConfigFile({ file, env, cwd }: FileQuery): string | null {
  const named = file ?? (env.AUTOGLM_CONFIG || undefined)
  if (named !== undefined) return resolve(cwd, named)
  return defaultFileNames.map((name) => join(cwd, name)).find(isFile) ?? null
}

/** The file as messages name it: relative where that is shorter to read. */
export function showFile(path: string, cwd: string): string {
  const short = relative(cwd, path)
  return short === '' || short.startsWith('..') ? path : short
}

const reasons: Record<string, string> = {
  ENOENT: 'is not there; check the path, or leave it out to take autoglm.yaml or the defaults',
  EACCES: 'cannot be read: permission denied; allow this user to read it',
  EISDIR: 'is a folder; name the YAML file in it',
  ENOTDIR: 'is not there; a part of its path is not a folder',
}

function readText(path: string, name: string): string {
  try {
    if (statSync(path).size > fileBytesMax) {
      throw new SetupError(`${name} is larger than ${fileBytesMax} bytes: this is not a configuration file`)
    }
    const text = readFileSync(path, 'utf8')
    if (/[\0\ufffd]/.test(text)) throw new SetupError(`${name} is not a text in UTF-8; name a YAML file`)
    return text
  } catch (error) {
    if (error instanceof SetupError) throw error
    const { code, message } = error as NodeJS.ErrnoException
    throw new SetupError(`${name} ${reasons[code ?? ''] ?? `cannot be read: ${message}`}`, { cause: error })
  }
}

/** Reads the file at `path`. Problems of its YAML are returned; a file that cannot be read is a SetupError. */
export function readConfigFile(path: string, cwd: string): { read: YamlText } | { problems: Problem[] } {
  const file = showFile(path, cwd)
  const parsed = parseYaml(readText(path, file))
  if ('read' in parsed) return parsed
  return {
    problems: parsed.mistakes.map(({ line, column, what }) => ({
      place: { kind: 'file', file, line, column },
      path: [],
      shown: null,
      what,
    })),
  }
}
