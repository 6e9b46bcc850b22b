import { SetupError } from '../core/errors.ts'

/** A file of a model hub: `hf:user/repo:file.gguf`, or `hf:user/repo@revision:folder/file.gguf`. */
export type HubSource = { user: string; repo: string; revision: string; file: string }

type ModelSource = { kind: 'bundled' } | { kind: 'hub'; hub: HubSource } | { kind: 'path'; path: string }

const hubPattern = /^hf:([\w.-]+)\/([\w.-]+?)(?:@([\w./-]+))?:([^:?#\\]+)$/

/** No step of a path that leaves its folder, or that a file system takes for something else. */
const isPlainPath = (path: string) =>
  path.split('/').every((step) => step !== '' && step !== '.' && step !== '..' && !/[\0-\x1f]/.test(step))

/** Reads what a model's `source` says. Throws a SetupError when it begins with `hf:` and is not complete. */
export function parseModelSource(source: string): ModelSource {
  if (source === 'tiny') return { kind: 'bundled' }
  if (!source.startsWith('hf:')) return { kind: 'path', path: source }
  const [, user, repo, revision = 'main', file] = hubPattern.exec(source) ?? []
  if (!user || !repo || !file || ![user, repo, revision, file].every(isPlainPath)) {
    throw new SetupError(
      `${JSON.stringify(source)} is not a file of a hub; write hf:user/repo:file.gguf or hf:user/repo@revision:file.gguf`,
    )
  }
  return { kind: 'hub', hub: { user, repo, revision, file } }
}

/** A model in several files is named by its first: `a-00001-of-00003.gguf` -> the three of them. */
export function listParts(file: string): string[] {
  const match = /^(.*-)00001-of-(\d{5})\.gguf$/.exec(file)
  if (!match) return [file]
  const [, stem = '', total = '1'] = match
  return Array.from(
    { length: Number(total) },
    (_, at) => `${stem}${String(at + 1).padStart(5, '0')}-of-${total}.gguf`,
  )
}
