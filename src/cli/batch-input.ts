import { createReadStream, createWriteStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { pipeline } from 'node:stream/promises'
import { SetupError } from '../core/errors.ts'

/** Where the lines go that are for this endpoint; the first line decides when nobody says. */
export async function readEndpoint(file: string): Promise<string> {
  const info = await stat(file).catch((error: NodeJS.ErrnoException) => {
    throw new SetupError(`${file} can't be read (${error.code}); check the path`)
  })
  if (!info.isFile()) throw new SetupError(`${file} is not a file`)
  for await (const line of readLines(file)) {
    if (line.trim() === '') continue
    const { url } = parseLine(line, file, 1)
    if (typeof url === 'string') return url
    throw new SetupError(
      `the first line of ${file} has no url; a line is {"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{…}}`,
    )
  }
  throw new SetupError(`${file} is empty; it must hold one request a line`)
}

/** Writes the lines of `file` to `target`, each asking `model`. Lines that are no requests stay as they are. */
export async function writeWithModel(file: string, target: string, model: string): Promise<void> {
  const rewrite = async function* () {
    for await (const line of readLines(file)) yield `${setModel(line, model)}\n`
  }
  await pipeline(rewrite, createWriteStream(target, { flags: 'wx' }))
}

function setModel(line: string, model: string): string {
  try {
    const request = JSON.parse(line) as { body?: unknown }
    if (typeof request.body !== 'object' || request.body === null) return line
    return JSON.stringify({ ...request, body: { ...request.body, model } })
  } catch {
    // The server says what is wrong with it, and where.
    return line
  }
}

function parseLine(line: string, file: string, number: number): { url?: unknown } {
  try {
    const value = JSON.parse(line) as { url?: unknown } | null
    if (typeof value === 'object' && value !== null) return value
  } catch {
    // Said below.
  }
  throw new SetupError(
    `line ${number} of ${file} is not a JSON object; a batch is one request a line (JSONL)`,
  )
}

const readLines = (file: string) =>
  createInterface({ input: createReadStream(file), crlfDelay: Number.POSITIVE_INFINITY })
