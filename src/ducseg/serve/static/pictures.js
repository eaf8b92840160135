// Pictures to and from arrays.

/** The bytes of a base64 text as a PNG file. */
export function png(base64) {
  return new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type: "image/png" });
}

/** A picture as a bitmap, upright; null where the browser cannot read it. */
export function bitmap(file) {
  return createImageBitmap(file).catch(() => null);
}

/** The values of a grey PNG, row by row. */
export async function values(file) {
  const picture = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { data } = drawn(picture).getImageData(0, 0, picture.width, picture.height);
  const found = new Uint8Array(picture.width * picture.height);
  for (let i = 0; i < found.length; i++) found[i] = data[4 * i];
  return found;
}

function drawn(picture) {
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  return context;
}

/** Labels in the colours of the classes for which `shown(id)` holds; the others are clear. */
export function coloured(labels, width, height, classes, shown) {
  const table = new Uint32Array(256);
  for (const { id, color: [red, green, blue] } of classes) {
    if (shown(id)) table[id] = ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  }
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = table[labels[i]];
  return image;
}

/** Offer a file for download. */
export function save(file, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
