import type { FastifyRequest } from 'fastify'
import { ApiError, fail } from '../core/errors.ts'
import { keepSeconds } from '../queue/batches/batch-request.ts'
import {
  uploadPurposes,
  type FilePurpose,
  type FileStore,
  type StoredFile,
} from '../queue/batches/file-store.ts'
import type { Logger } from '../telemetry/log.ts'
import { tooLarge, type Upload } from '../queue/batches/upload.ts'

const uploadLimits = {
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
  log: Logger,
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
      upload = await files.begin(request.record.caller.tenant)
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
      .catch((err: unknown) => log.warn({ err, file: upload?.id }, 'an upload is left to the next sweep'))
    throw explainForm(error, request)
  }
}

/** What the parser of forms complains about in codes: the field, and what is to be said of it. */
const complaints: Readonly<Record<string, readonly [param: string, what: string]>> = {
  FST_FILES_LIMIT: ['file', 'must be one file; send each in a request of its own'],
  FST_FIELDS_LIMIT: ['body', `must have at most ${uploadLimits.fields} fields beside the file`],
  FST_PARTS_LIMIT: ['body', `must have at most ${uploadLimits.parts} parts`],
  FST_PROTO_VIOLATION: ['body', 'has a field of a name that is not allowed, such as `constructor`'],
  FST_INVALID_JSON_FIELD_ERROR: ['body', 'has a field sent as JSON; send fields as plain text'],
}

/** What the parser and the connection complain about, in our own words; anything else is as it was. */
function explainForm(error: unknown, { raw }: FastifyRequest): unknown {
  if (!(error instanceof Error) || error instanceof ApiError) return error
  const { code = '' } = error as NodeJS.ErrnoException
  // The client is gone: there is nobody to tell, and nothing wrong with this server.
  if (brokenOff.has(code) && raw.destroyed && !raw.complete) return fail('client_closed')
  const known = complaints[code]
  if (known) return invalid(...known)
  if (!/^(Unexpected end|Part terminated|Multipart:|Malformed)/.test(error.message)) return error
  return invalid('body', 'is not a whole form: send multipart/form-data up to and with its last boundary')
}

const brokenOff = new Set(['FST_MP_PREMATURE_CLOSE', 'ERR_STREAM_PREMATURE_CLOSE', 'ECONNRESET'])

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

function invalid(param: string, what: string): ApiError {
  return fail('invalid_request', { message: `\`${param}\` ${what}.`, param: param.slice(0, 100) })
}
