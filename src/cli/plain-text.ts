/** On a terminal, text of others must not be able to move the cursor or set the title: only text gets through. */
export const keepText = (text: string): string =>
  // oxlint-disable-next-line no-control-regex
  text.replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '')

/** The same in one line, for the cell of a table. */
export const keepLine = (text: string): string => keepText(text).replaceAll(/\s+/g, ' ')
