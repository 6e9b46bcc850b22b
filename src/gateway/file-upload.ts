import type { FastifyRequest } from 'fastify'
import { fail, type ApiError } from '../core/errors.ts'
import { keepSeconds } from '../queue/batches/batch-request.ts'
import {
  uploadPurposes,
  type FilePurpose,
  type FileStore,
  type StoredFile,
} from '../queue/batches/file-store.ts'
import { tooLarge, type Upload } from '../queue/batches/upload.ts'

export const uploadLimits = {
  files: 1,
  fields: 16,
  parts: 20,
  fieldNameSize: 100,
  fieldSize: 1_024,
  headerPairs: 50,
} as const

/** The form around the content of a file takes up no more than this. */
const formBytesMax = 65_536
const filenameCharsMax = 255

/** Takes the file of a multipart request as it arrives; of one that is refused or breaks off nothing is left. */
export async function receiveFile(
  request: FastifyRequest,
  files: FileStore,
  tenant: string,
): Promise<StoredFile> {
  if (!request.isMultipart()) {
    throw fail('unsupported_media_type', {
      message: 'Send the file as multipart/form-data, with a field `purpose`.',
    })
  }
  const { fileBytesMax } = files
  // Nothing is read of what is announced to be too long.
  if (Number(request.headers['content-length'] ?? 0) > fileBytesMax + formBytesMax)
    throw tooLarge(fileBytesMax)
  let upload: Upload | null = null
  let filename = ''
  const fields = new Map<string, string>()
  try {
    for await (const part of request.parts({ limits: { ...uploadLimits, fileSize: fileBytesMax + 1 } })) {
      if (part.type === 'field') {
        if (part.valueTruncated)
          throw invalid(part.fieldname, `must have at most ${uploadLimits.fieldSize} bytes`)
        fields.set(part.fieldname, String(part.value))
        continue
      }
      if (part.fieldname !== 'file')
        throw invalid('file', `is the name that a file is sent under, and not \`${part.fieldname}\``)
      upload = await files.begin(tenant)
      filename = cleanName(part.filename)
      for await (const chunk of part.file) await upload.write(chunk as Buffer)
    }
    if (!upload) throw invalid('file', 'is missing')
    return await upload.finish({ filename, purpose: readPurpose(fields), keepMs: readKeepMs(fields) })
  } catch (error) {
    // What still comes is let go by, so that the client gets to reading the answer. Taken off the parser first: its
    // own unpipe, a moment later, would pause the request again.
    request.raw.unpipe()
    request.raw.resume()
    await upload
      ?.discard()
      .catch((err: unknown) => request.log.warn({ err }, 'an upload is left to the next sweep'))
    throw isBrokenForm(error) ? fail('invalid_request', { message: `${error.message}.` }) : error
  }
}

/** The parser complains in errors of its own, which carry no status. */
const isBrokenForm = (error: unknown): error is Error =>
  error instanceof Error && /^(Unexpected end|Part terminated|Multipart:|Malformed)/.test(error.message)

function readPurpose(fields: ReadonlyMap<string, string>): FilePurpose {
  const purpose = fields.get('purpose')
  if ((uploadPurposes as readonly unknown[]).includes(purpose)) return purpose as FilePurpose
  throw invalid('purpose', `must be one of ${uploadPurposes.join(', ')}`)
}

function readKeepMs(fields: ReadonlyMap<string, string>): number | null {
  const anchor = fields.get('expires_after[anchor]')
  const seconds = fields.get('expires_after[seconds]')
  if (anchor === undefined && seconds === undefined) return null
  if (anchor !== 'created_at') throw invalid('expires_after[anchor]', 'must be created_at')
  const { min, max } = keepSeconds
  const keep = /^\d{1,9}$/.test(seconds ?? '') ? Number(seconds) : 0
  if (keep < min || keep > max)
    throw invalid('expires_after[seconds]', `must be a whole number from ${min} to ${max}`)
  return keep * 1000
}

/** A name to show, and nothing that a terminal or a header would take for more. */
function cleanName(name: string | undefined): string {
  const clean = (name ?? '')
    .toWellFormed()
    .replaceAll(/[\u0000-\u001f\u007f]/g, '')
    .slice(-filenameCharsMax)
  return clean.toWellFormed() || 'file'
}

const invalid = (param: string, what: string): ApiError =>
  fail('invalid_request', { message: `\`${param}\` ${what}.`, param: param.slice(0, 100) })
